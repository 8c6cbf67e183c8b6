//! Pushing into the CNCF registry, as it is and behind TLS, a password file and a token server,
//! and the result read by crane, skopeo and a Docker engine. `scripts/real-parts run`
//! provides them.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::catalog_fixture::CatalogFixture;
use crate::layout_fixture::{LayoutFixture, SEVEN};
use crate::require::part;
use crate::run::{ok, run};

/// bcrypt of this, for the user `me`.
const PASSWORD: &str = "hunter2hunter2";
const HTPASSWD: &str = "me:$2b$04$i7DQ.xWr8frTTqB7eZMQbOpUyIcZ3T.zxyuquHzB1/KShDY4.2u0y\n";

fn etcdimg(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcdimg"));
    for variable in ["REGISTRY", "PUSH_REGISTRY", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "ARCH"] {
        command.env_remove(variable);
    }
    command.env_remove("XDG_RUNTIME_DIR").env("HOME", home).current_dir(home);
    command.arg("--cache-dir").arg(home.join("cache"));
    command
}

/// A registry of our own, which ends with this.
struct CncfRegistry {
    process: Child,
    host: String,
    folder: TempDir,
}

impl Drop for CncfRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl CncfRegistry {
    /// With TLS by a certificate that only `ca.pem` vouches for; `auth` is part of its YAML.
    fn start(program: &str, folder: TempDir, auth: &str) -> Self {
        let place = folder.path();
        certify(place);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let place = place.display();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {place}/data}}}}\n\
             http:\n  addr: {host}\n  tls: {{certificate: {place}/tls.pem, key: {place}/tls.key}}\n{auth}\n"
        );
        fs::write(folder.path().join("registry.yml"), config).unwrap();
        let process = Command::new(program)
            .arg("serve")
            .arg(folder.path().join("registry.yml"))
            .env_clear()
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let registry = Self { process, host, folder };
        registry.await_listening();
        registry
    }

    fn await_listening(&self) {
        for _ in 0..200 {
            if std::net::TcpStream::connect(&self.host).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{}", fs::read_to_string(self.path("log")).unwrap());
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// What crane says of an image in it.
    fn validate(&self, crane: &str, reference: &str) {
        let mut command = Command::new(crane);
        command.args(["validate", "--fast", "--remote", reference]);
        command.env("SSL_CERT_FILE", self.path("ca.pem")).env("DOCKER_CONFIG", self.folder.path());
        let said = ok(&command.output().unwrap());
        assert!(said.starts_with("PASS"), "{said}");
    }

    fn login(&self) {
        let auth = STANDARD.encode(format!("me:{PASSWORD}"));
        let config = json!({ "auths": { (self.host.as_str()): { "auth": auth } } });
        fs::write(self.path("config.json"), config.to_string()).unwrap();
    }
}

/// An authority, and a certificate for 127.0.0.1.
fn certify(folder: &Path) {
    let openssl = |arguments: &str| {
        let arguments: Vec<_> = arguments.split(' ').collect();
        ok(&Command::new("openssl").args(arguments).current_dir(folder).output().unwrap());
    };
    openssl(
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem",
    );
    openssl("req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout tls.key -out tls.csr");
    fs::write(folder.join("san"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        "x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out tls.pem",
    );
}

/// Real images for one platform, with a base and a layer that crane can look into.
fn image(home: &Path) -> String {
    let layout = home.join("layout").display().to_string();
    let base = home.join("base.tar").display().to_string();
    let digest = run("scripts/busybox-base", &["linux/amd64", &base]);
    let base = format!("busybox=rootfs:{base}@{}", digest.trim());
    let arguments = ["build", "--from=source", "--base", &base, "--out", &layout];
    run(env!("CARGO_BIN_EXE_etcdimg"), &arguments);
    layout
}

#[test]
#[ignore = "needs an engine, a registry, compilers and the network"]
fn what_was_pushed_is_pulled_by_others_and_runs() {
    let registry = part("ETCDIMG_TEST_REGISTRY");
    let home = tempfile::tempdir().unwrap();
    let layout = image(home.path());
    let push = ["push", &layout, "--registry", &format!("{registry}/pushed"), "--format", "json"];
    let report = ok(&etcdimg(home.path()).args(push).output().unwrap());
    let report: Value = serde_json::from_str(&report).unwrap();
    let digest = report["repositories"][0]["digest"].as_str().unwrap();
    let reference = format!("{registry}/pushed/etcd:3.7.1-0");

    let crane = part("CRANE");
    let validated = run(&crane, &["validate", "--insecure", "--remote", &reference]);
    assert!(validated.starts_with("PASS"), "{validated}");
    assert_eq!(run(&crane, &["digest", "--insecure", &reference]).trim(), digest);
    let copied = format!("oci:{}:x", home.path().join("copied").display());
    let source = format!("docker://{reference}");
    let flags = ["copy", "--all", "--preserve-digests", "--quiet", "--src-tls-verify=false"];
    run(&part("SKOPEO"), &[&flags[..], &[&source, &copied]].concat());
    run("docker", &["pull", "--quiet", &reference]);
    let said = run("docker", &["run", "--rm", "--network=none", &reference, "etcd", "--version"]);
    assert!(said.starts_with("etcd Version: 3.7.1\n"), "{said}");
    run("docker", &["rmi", "--force", &reference]);

    let verified = ok(&etcdimg(home.path()).args(["verify", &reference]).output().unwrap());
    assert!(verified.contains("3.7.1-0 linux/amd64"), "{verified}");
    // For old clients, with the types of Docker, and copied from there.
    let docker = ["push", &layout, "--media-types=docker", "--repository=old", "--registry"];
    ok(&etcdimg(home.path()).args(docker).arg(format!("{registry}/pushed")).output().unwrap());
    let old = format!("{registry}/pushed/old:3.7.1-0");
    let validated = run(&crane, &["validate", "--insecure", "--remote", &old]);
    assert!(validated.starts_with("PASS"), "{validated}");
    let prod = format!("{registry}/prod/etcd");
    let copied = ok(&etcdimg(home.path()).args(["copy", &reference, &prod]).output().unwrap());
    assert_eq!(copied, format!("{prod}@{digest}"));
}

#[test]
#[ignore = "needs a registry"]
fn the_registry_counts_the_requests_that_were_estimated() {
    let registry = part("ETCDIMG_TEST_REGISTRY");
    let log = part("ETCDIMG_TEST_REGISTRY_LOG");
    let home = tempfile::tempdir().unwrap();
    let counted = |repository: &str| {
        let log = fs::read_to_string(&log).unwrap();
        log.lines().filter(|line| line.contains(&format!(" /v2/{repository}/"))).count() as u64
    };
    let push = |layout: &LayoutFixture, repository: &str| -> Value {
        let mut command = etcdimg(home.path());
        command.args(["push", layout.path().to_str().unwrap(), "--format", "json"]);
        command.args(["--registry", &registry, "--repository", repository]);
        let report: Value = serde_json::from_str(&ok(&command.output().unwrap())).unwrap();
        report["repositories"][0].clone()
    };
    let first = LayoutFixture::new(&SEVEN, 200_000, 0);
    let scouted = push(&first, "counted/scout");
    assert_eq!(scouted["requests"], counted("counted/scout"), "{scouted}");
    let blobs = first.plan().blobs.len() as u64;
    // Known by now: the tag twice and set, two for each blob, one for each image.
    let report = push(&first, "counted/first");
    assert_eq!(report["requests"], counted("counted/first"));
    // It did not know that nothing is there, which is the most that can be.
    assert_eq!(report["forecast"]["most"], counted("counted/first"));
    assert_eq!(counted("counted/first"), 2 + 2 * blobs + 7 + 1);
    // Nothing to do.
    assert_eq!(push(&first, "counted/first")["requests"], 1);
    assert_eq!(counted("counted/first"), 2 + 2 * blobs + 7 + 1 + 1);
    // A new revision: what is there costs one, and no byte.
    let next = LayoutFixture::new(&SEVEN, 200_000, 1);
    let before = counted("counted/first");
    let report = push(&next, "counted/first");
    let made = counted("counted/first") - before;
    assert_eq!(report["requests"], made);
    let estimated = |name: &str| report["forecast"][name].as_u64().unwrap();
    assert!((estimated("least")..=estimated("most")).contains(&made), "{report}");
    assert!(report["moved_bytes"].as_u64().unwrap() < next.size() / 100, "{report}");
}

#[test]
#[ignore = "needs a registry and openssl"]
fn tls_and_a_password_file_let_in_who_should() {
    let program = part("DOCKER_REGISTRY");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("htpasswd"), HTPASSWD).unwrap();
    let auth =
        format!("auth: {{htpasswd: {{realm: here, path: {}/htpasswd}}}}", folder.path().display());
    let registry = CncfRegistry::start(&program, folder, &auth);
    let home = tempfile::tempdir().unwrap();
    let (layout, place) = (LayoutFixture::small(), format!("https://{}", registry.host));
    let push = |more: &[&str], password: &str| {
        let mut command = etcdimg(home.path());
        command.args(["push", layout.path().to_str().unwrap(), "--registry", &place]).args(more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut push = command.spawn().unwrap();
        writeln!(push.stdin.take().unwrap(), "{password}").unwrap();
        push.wait_with_output().unwrap()
    };
    let me = ["--username", "me", "--password-stdin"];
    let ca = registry.path("ca.pem");
    let trusted = [&me[..], &["--ca-file", &ca]].concat();
    let failed = |output: Output| {
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(5), "{text}");
        assert!(!text.contains(PASSWORD), "{text}");
        text
    };
    let untrusted = failed(push(&me, PASSWORD));
    assert!(untrusted.contains("certificate"), "{untrusted}");
    assert!(failed(push(&trusted, "wrong")).contains("401 Unauthorized"));
    assert!(failed(push(&["--ca-file", &ca], "")).contains("none is known for it"));
    ok(&push(&trusted, PASSWORD));
    ok(&push(
        &[&me[..], &["--insecure-registry", "127.0.0.1", "--tag", "x", "--force"]].concat(),
        PASSWORD,
    ));
    registry.login();
    let found = etcdimg(home.path())
        .args(["promote", "--list", &format!("{place}/etcd:x"), "--ca-file", &ca])
        .env("DOCKER_CONFIG", registry.folder.path())
        .output()
        .unwrap();
    assert_eq!(ok(&found), format!("\"{}\": [\"x\"]", layout.index));
    let crane = part("CRANE");
    registry.validate(&crane, &format!("{}/etcd:3.7.1-0", registry.host));
    let mut digest = Command::new(crane);
    digest.args(["digest", &format!("{}/etcd:3.7.1-0", registry.host)]);
    digest.env("SSL_CERT_FILE", &ca).env("DOCKER_CONFIG", registry.folder.path());
    assert_eq!(ok(&digest.output().unwrap()), layout.index.to_string());
}

#[test]
#[ignore = "needs a registry and openssl"]
fn a_token_server_lets_in_who_should() {
    let program = part("DOCKER_REGISTRY");
    let folder = tempfile::tempdir().unwrap();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let realm = format!("http://{}/token", server.local_addr().unwrap());
    let bundle = folder.path().join("ca.pem");
    let auth = format!(
        "auth: {{token: {{realm: {realm}, service: here, issuer: tests, rootcertbundle: {}}}}}",
        bundle.display()
    );
    let registry = CncfRegistry::start(&program, folder, &auth);
    let signing = registry.folder.path().to_owned();
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while reader.read_line(&mut head).unwrap() > 2 {}
            let reply = if head.contains(&STANDARD.encode(format!("me:{PASSWORD}"))) {
                let body = json!({ "token": token(&signing, &head), "expires_in": 1 }).to_string();
                format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                )
            } else {
                "HTTP/1.1 401 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned()
            };
            let _ = stream.write_all(reply.as_bytes());
        }
    });
    let home = tempfile::tempdir().unwrap();
    let (layout, place) = (LayoutFixture::small(), format!("https://{}", registry.host));
    let push = |repository: &str, more: &[&str]| {
        let mut command = etcdimg(home.path());
        command.args(["push", layout.path().to_str().unwrap(), "--registry", &place]);
        command
            .args(["--repository", repository, "--ca-file", &registry.path("ca.pem")])
            .args(more);
        command.env("DOCKER_CONFIG", registry.folder.path()).output().unwrap()
    };
    let refused = push("etcd", &[]);
    assert_eq!(refused.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("cannot get a token for"));
    registry.login();
    ok(&push("etcd", &[]));
    // Mounted with a token that may read there, named here or in versions.yaml.
    let source = format!("{place}/etcd");
    let fixture = CatalogFixture::empty();
    let versions = fixture.root().join("versions.yaml");
    let text = fs::read_to_string(&versions).unwrap() + &format!("mount-from:\n  - {source}\n");
    fs::write(versions, text).unwrap();
    let named = ["--mount-from", &source, "--format=json"];
    let root = fixture.root();
    let listed = ["-C", root.to_str().unwrap(), "--format=json"];
    for (repository, from) in [("other", &named[..]), ("third", &listed[..])] {
        let report: Value = serde_json::from_str(&ok(&push(repository, from))).unwrap();
        assert_eq!(report["repositories"][0]["mounted_bytes"], layout.size(), "{from:?}");
        assert_eq!(report["repositories"][0]["moved_bytes"], 0, "{from:?}");
    }
}

/// What the registry believes: signed by the key of its own certificate bundle.
fn token(folder: &Path, head: &str) -> String {
    let target = head.split(' ').nth(1).unwrap();
    let url = reqwest::Url::parse(&format!("http://x{target}")).unwrap();
    let scopes = url.query_pairs().filter(|(name, _)| name == "scope");
    let access: Vec<_> = scopes
        .map(|(_, scope)| {
            let parts: Vec<_> = scope.split(':').collect();
            let actions: Vec<_> = parts[2].split(',').collect();
            json!({ "type": parts[0], "name": parts[1], "actions": actions })
        })
        .collect();
    #[expect(clippy::disallowed_methods, reason = "a token says when it ends")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "iss": "tests", "sub": "me", "aud": "here", "jti": "1", "iat": now, "nbf": now - 10,
        "exp": now + 60, "access": access,
    });
    let pem = fs::read_to_string(folder.join("ca.pem")).unwrap();
    let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [der] });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let mut sign = Command::new("openssl");
    sign.args(["dgst", "-sha256", "-sign"]).arg(folder.join("ca.key"));
    let mut sign = sign.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    sign.stdin.take().unwrap().write_all(signed.as_bytes()).unwrap();
    let signature = sign.wait_with_output().unwrap().stdout;
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
