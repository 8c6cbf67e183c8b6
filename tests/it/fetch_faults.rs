//! Faults of servers, connections and disks, and the errors that `fetch` reports.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use etcdimg::digest::Digest;
use etcdimg::fetch::{FetchError, FetchOrigin, PinnedFile, TransferError, fetch};
use etcdimg::store::Store;

use crate::fetch::{FILE, FetchFixture, ui, wanted};
use crate::release_server::{FakeResponse, ReleaseServer};
use crate::require;

fn wrong() -> Vec<u8> {
    vec![7; FILE.len()]
}

/// The URL of a port on which no server listens.
fn refused() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/etcd", listener.local_addr().unwrap())
}

#[tokio::test]
async fn wrong_bytes_lead_to_the_next_mirror() {
    let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
    let bad = server.on("/bad", [FakeResponse::file(&wrong())]);
    let good = server.on("/good", [FakeResponse::file(&FILE)]);
    let fetched = fixture.fetch(&[bad, good.clone()]).await.unwrap();
    assert_eq!(fetched.origin, FetchOrigin::Mirror(good));
    assert_eq!(server.requests().len(), 2, "wrong bytes are not asked for again");
    fixture.assert_whole();
}

#[tokio::test]
async fn a_mirror_is_not_blamed_for_the_half_that_another_sent() {
    let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
    let bad = server.on("/bad", [FakeResponse::file(&wrong()).closed_after(100_000)]);
    let good = server.on("/good", [FakeResponse::file(&FILE)]);
    fixture.fetch(&[bad, good]).await.unwrap();
    fixture.assert_whole();
    let asked = [None, Some(100_000), Some(200_000), Some(300_000), Some(400_000), None];
    let range = |start: Option<u32>| start.map(|start| format!("bytes={start}-"));
    assert_eq!(server.received("range"), asked.map(range));
}

#[tokio::test]
async fn wrong_bytes_everywhere_are_shown_with_both_digests() {
    let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
    let bad = server.on("/bad", [FakeResponse::file(&wrong())]);
    let short = server.on("/short", [FakeResponse::file(b"<html>log in</html>")]);
    let error = fixture.fetch(&[bad, short]).await.unwrap_err();
    assert!(error.is_wrong_bytes());
    assert!(fixture.store.entries().unwrap().is_empty());
    assert!(!fixture.store.partial_path(&Digest::of(&*FILE)).exists());
    insta::assert_snapshot!(error.to_string().replace(&server.url(""), "http://mirror"), @r"
    cannot fetch `etcd.tar.gz`
      http://mirror/bad: wrong digest
        expected sha256:552a438886f75fd5e70ff6ad0671698758af0a126388ab130f4eb85c0cf6c725
        received sha256:a298a37516409bac6a708ed2869888b0daaaa1bd04058afefb0f685a8918b951
      http://mirror/short: wrong size
        expected 1200000 bytes
        received 19 bytes
    ");
}

#[tokio::test]
async fn every_mirror_that_failed_is_listed_in_order() {
    let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
    let urls = [
        server.url("/missing"),
        server.on("/busy", [FakeResponse::status(503)]),
        refused(),
        server.on("/cut", [FakeResponse::file(&FILE).closed_after(0)]),
        "file:///nowhere/etcd.tar.gz".to_owned(),
        "ftp://user:secret@host/etcd".to_owned(),
    ];
    let error = fixture.fetch(&urls).await.unwrap_err();
    assert!(!error.is_wrong_bytes());
    let text = error.to_string().replace(&server.url(""), "http://mirror");
    insta::assert_snapshot!(text.replace(&urls[2], "http://refused"), @r"
    cannot fetch `etcd.tar.gz`
      http://mirror/missing: 404 Not Found
      http://mirror/busy: 503 Service Unavailable, after 4 attempts
      http://refused: cannot connect: Connection refused (os error 111), after 4 attempts
      http://mirror/cut: the connection broke: end of file before message length reached, after 4 attempts
      file:///nowhere/etcd.tar.gz: No such file or directory (os error 2)
      ***@host/etcd: not a URL of the form http://, https:// or file:///
    ");
}

#[tokio::test]
async fn without_a_mirror_the_error_says_so() {
    let error = FetchFixture::new().fetch(&[]).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot fetch `etcd.tar.gz`: there is no mirror to ask");
}

#[tokio::test]
async fn a_missing_file_is_asked_for_exactly_once() {
    let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
    let good = server.on("/good", [FakeResponse::file(&FILE)]);
    fixture.fetch(&[server.url("/missing"), good]).await.unwrap();
    let targets: Vec<_> = server.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/missing", "/good"]);
}

#[tokio::test]
async fn a_refused_connection_is_tried_again_and_then_left() {
    let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
    let good = server.on("/good", [FakeResponse::file(&FILE)]);
    fixture.fetch(&[refused(), good]).await.unwrap();
    fixture.assert_whole();
}

#[tokio::test]
async fn a_busy_server_is_asked_again_after_the_time_it_wants() {
    let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
    let busy = FakeResponse::status(429).header("retry-after", "1");
    fixture.fetch(&[server.on("/etcd", [busy, FakeResponse::file(&FILE)])]).await.unwrap();
    let requests = server.requests();
    let waited = requests[1].at - requests[0].at;
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
}

#[tokio::test]
async fn a_server_that_wants_an_hour_does_not_get_it() {
    let (server, mut fixture) = (ReleaseServer::start(), FetchFixture::new());
    fixture.options.longest_wait = Duration::from_millis(20);
    let busy = FakeResponse::status(429).header("retry-after", "Thu, 31 Dec 9998 23:59:59 GMT");
    let urls = [server.on("/etcd", [busy, FakeResponse::file(&FILE)])];
    let fetched = tokio::time::timeout(Duration::from_secs(30), fixture.fetch(&urls)).await;
    fetched.expect("it waits as long as the server wants").unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn three_times_unavailable_is_survived() {
    let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
    let busy = FakeResponse::status(503);
    let answers = [busy.clone(), busy.clone(), busy, FakeResponse::file(&FILE)];
    fixture.fetch(&[server.on("/etcd", answers)]).await.unwrap();
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn no_more_is_written_than_was_pinned() {
    let long = [&FILE[..], b"more"].concat();
    // One server announces too much, one only sends it.
    for (answer, expected) in [
        (FakeResponse::file(&long), "received 1200004 bytes"),
        (FakeResponse::file(&long).without_length(), "longer than the 1.2 MB allowed"),
    ] {
        let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
        let error = fixture.fetch(&[server.on("/etcd", [answer])]).await.unwrap_err();
        assert!(error.to_string().ends_with(expected), "{error}");
        assert!(error.is_wrong_bytes());
        assert_eq!(server.requests().len(), 1);
        assert!(!fixture.store.partial_path(&Digest::of(&*FILE)).exists());
    }
}

#[tokio::test]
async fn a_body_that_ends_early_without_an_error_is_resumed() {
    let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
    let cut = FakeResponse::file(&FILE).without_length().closed_after(100_000);
    fixture.fetch(&[server.on("/etcd", [cut, FakeResponse::file(&FILE)])]).await.unwrap();
    fixture.assert_whole();
    assert_eq!(server.received("range"), [None, Some("bytes=100000-".to_owned())]);
}

/// Starts itself again, since a proxy is chosen by the environment of a process.
#[tokio::test]
async fn proxies_of_the_environment_are_used_but_not_for_this_machine() {
    const SELF: &str = "fetch_faults::proxies_of_the_environment_are_used_but_not_for_this_machine";
    if let Ok(direct) = std::env::var("ETCDIMG_TEST_DIRECT") {
        FetchFixture::new().fetch(&["http://etcd.invalid/etcd".to_owned()]).await.unwrap();
        FetchFixture::new().fetch(&[direct]).await.unwrap();
        return;
    }
    let (proxy, server) = (ReleaseServer::start(), ReleaseServer::start());
    proxy.on("http://etcd.invalid/etcd", [FakeResponse::file(&FILE)]);
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", SELF]).env("http_proxy", proxy.url("/")).env_remove("NO_PROXY");
    child.env("ETCDIMG_TEST_DIRECT", server.on("/etcd", [FakeResponse::file(&FILE)]));
    let output = child.env_remove("no_proxy").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((proxy.requests().len(), server.requests().len()), (1, 1));
}

#[tokio::test]
async fn a_file_of_unknown_size_arrives_too() {
    let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
    let url = server
        .on("/etcd", [FakeResponse::file(&FILE).reset_after(9000), FakeResponse::file(&FILE)]);
    fixture.fetch_wanted(PinnedFile { size: None, ..wanted(&[url]) }).await.unwrap();
    fixture.assert_whole();
}

#[tokio::test]
async fn redirects_in_a_circle_end() {
    let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
    let url = server.on("/etcd", [FakeResponse::redirect("/etcd")]);
    let error = fixture.fetch(&[url]).await.unwrap_err();
    assert!(error.to_string().ends_with("broken HTTP: too many redirects"), "{error}");
    assert_eq!(server.requests().len(), 11);
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_full_disk_is_one_clear_error() {
    let server = ReleaseServer::start();
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(folder.path());
    let store = Store::open(disk.path.join("cache")).unwrap();
    let url = server.on("/etcd", [FakeResponse::file(&FILE)]);
    let good = server.on("/good", [FakeResponse::file(&FILE)]);
    let options = FetchFixture::new().options;
    let error = fetch(&store, &[wanted(&[url, good])], &options, &ui()).await.unwrap_err();

    assert!(matches!(error, FetchError::Store(_)), "{error:?}");
    let because = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(because, "No space left on device (os error 28)");
    assert_eq!(server.requests().len(), 1, "a full disk is not the mirror's fault");
    assert!(store.entries().unwrap().is_empty());
}

/// The compiler checks this: there is nothing to run.
#[test]
fn what_can_be_shared_between_threads_is() {
    fn check<T: Send>(value: T) {
        drop(value);
    }
    let fixture = FetchFixture::new();
    check(async move { fetch(&fixture.store, &[], &fixture.options, &ui()).await });
    check(TransferError::Url);
}

/// A file system of 512 KiB, less than [`FILE`].
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    #[track_caller]
    fn mount(path: &Path) -> Self {
        let place = path.to_str().unwrap();
        require::program(&["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", place]);
        Self { path: path.to_owned() }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.path).status();
    }
}
