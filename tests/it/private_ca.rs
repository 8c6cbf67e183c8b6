//! A base in a registry whose certificate is signed by a private authority.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use etcdimg::digest::Digest;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::catalog_fixture::{self, CatalogFixture, Run};
use crate::layout_fixture;
use crate::lies::Behaviour;
use crate::lying_registry::LyingRegistry;
use crate::mutable_image::gunzip;

pub const REPOSITORY: &str = "base/busybox";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Accepts TLS and forwards to a server without TLS, until the process ends.
struct TlsFront {
    address: SocketAddr,
    /// The certificate of the authority, in PEM.
    authority: String,
}

impl TlsFront {
    fn start(server: String) -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(authority, key).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &authority).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (address, authority) = (listener.local_addr().unwrap(), authority.pem());
        let acceptor = TlsAcceptor::from(Arc::new(config));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(serve(listener, &acceptor, &server));
        });
        Self { address, authority }
    }
}

async fn serve(listener: std::net::TcpListener, acceptor: &TlsAcceptor, server: &str) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let (acceptor, server) = (acceptor.clone(), server.to_owned());
        tokio::spawn(async move {
            // A client that does not trust the certificate hangs up.
            let Ok(mut client) = acceptor.accept(client).await else { return };
            let mut server = TcpStream::connect(server).await.unwrap();
            let _ = copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

/// Puts a base with one layer into the registry, tagged `1`. Returns the digest of the layer.
pub fn add_base(registry: &LyingRegistry) -> Digest {
    let layer =
        catalog_fixture::archive(|tar| catalog_fixture::file(tar, "bin/sh", b"#!/nothing\n"));
    let mut state = registry.state();
    let mut blob = |media_type: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        state.blobs.insert((REPOSITORY.to_owned(), digest), bytes.to_vec());
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    };
    let config = json!({
        "os": "linux", "architecture": "amd64",
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(gunzip(&layer))] },
    });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": layout_fixture::MANIFEST,
        "config": blob(CONFIG, config.to_string().as_bytes()), "layers": [blob(LAYER, &layer)],
    });
    let mut document = |media_type: &str, value: serde_json::Value| {
        let bytes = value.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        let size = bytes.len();
        let stored = (media_type.to_owned(), bytes);
        state.manifests.insert((REPOSITORY.to_owned(), digest), stored);
        json!({ "mediaType": media_type, "digest": digest, "size": size })
    };
    let mut listed = document(layout_fixture::MANIFEST, manifest);
    listed["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    let index =
        json!({ "schemaVersion": 2, "mediaType": layout_fixture::INDEX, "manifests": [listed] });
    let index = document(layout_fixture::INDEX, index)["digest"].as_str().unwrap().parse().unwrap();
    state.tags.insert((REPOSITORY.to_owned(), "1".to_owned()), index);
    Digest::of(&layer)
}

#[test]
fn a_base_behind_a_private_authority_is_locked_fetched_and_built() {
    let registry = LyingRegistry::start(Behaviour::default());
    let layer = add_base(&registry);
    let tls = TlsFront::start(registry.host());
    let fixture = CatalogFixture::with_release();
    let authority = fixture.path("ca.pem");
    fs::write(&authority, &tls.authority).unwrap();
    let authority = format!("--ca-file={}", authority.display());
    // A new name, so that the lock does not have it yet.
    let base = format!("  private: https://{}/{REPOSITORY}:1", tls.address);
    fixture.edit("versions.yaml", "  busybox: docker.io/library/busybox:1.38.0-musl", &base);
    fixture.edit("targets/linux-amd64.yaml", "base: busybox", "base: private");
    let run = |words: &[&str]| -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcdimg"));
        for variable in ["ARCH", "ETCDIMG_CACHE", "SOURCE_DATE_EPOCH", "SSL_CERT_FILE"] {
            command.env_remove(variable);
        }
        command.arg("-C").arg(fixture.root()).args(words);
        if words[0] != "lock" {
            let mirror = format!("file://{}/{{file}}", fixture.path("mirror").display());
            command.arg("--mirror").arg(mirror);
        }
        fixture.finish(&mut command)
    };
    let (cache, empty) = (fixture.cache(), fixture.path("empty"));
    let (cache, empty) = (cache.display().to_string(), empty.display().to_string());
    let out = fixture.out().display().to_string();
    for words in [
        &["lock", "--cache-dir", &cache][..],
        &["fetch", "--only=bases", "--cache-dir", &empty],
        &["build", "--out", &out, "--cache-dir", &cache],
    ] {
        let refused = run(words).error();
        assert!(refused.contains("certificate") && refused.ends_with("exit 5"), "{refused}");
        run(&[words, &[&*authority][..]].concat()).ok();
    }
    assert!(fixture.out().join("blobs/sha256").join(layer.hex()).is_file());

    // Without an authority, but named.
    let other = fixture.path("other").display().to_string();
    let insecure = format!("--insecure-registry={}", tls.address);
    run(&["fetch", "--only=bases", "--cache-dir", &other, &insecure]).ok();
}
