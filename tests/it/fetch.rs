//! `fetch` stores a file completely, or not at all.

use std::fs;
use std::slice;
use std::sync::LazyLock;
use std::time::Duration;

use etcdimg::digest::Digest;
use etcdimg::fetch::{FetchError, FetchOptions, FetchOrigin, Fetched, PinnedFile, fetch};
use etcdimg::store::Store;
use etcdimg::ui::{ProgressMode, Ui, Verbosity};

use crate::release_server::{FakeResponse, ReleaseServer};

/// Larger than one read, so that there is a middle.
pub static FILE: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..300_000_u32).flat_map(u32::to_le_bytes).collect());

/// A store, and options with short time limits.
pub struct FetchFixture {
    pub store: Store,
    pub options: FetchOptions,
    _folder: tempfile::TempDir,
}

impl FetchFixture {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let options = FetchOptions {
            attempts: 4,
            stall_timeout: Duration::from_secs(2),
            backoff: Duration::from_millis(5),
            ..FetchOptions::default()
        };
        Self { store, options, _folder: folder }
    }

    pub async fn fetch(&self, urls: &[String]) -> Result<Fetched, FetchError> {
        self.fetch_wanted(wanted(urls)).await
    }

    pub async fn fetch_wanted(&self, wanted: PinnedFile) -> Result<Fetched, FetchError> {
        fetch(&self.store, &[wanted], &self.options, &ui()).await.map(|mut all| all.remove(0))
    }

    /// What a killed process left.
    pub fn leave(&self, bytes: &[u8]) {
        fs::write(self.store.partial_path(&Digest::of(&*FILE)), bytes).unwrap();
    }

    #[track_caller]
    pub fn assert_whole(&self) {
        assert_eq!(self.store.read(&Digest::of(&*FILE)).unwrap(), *FILE);
        assert!(!self.store.partial_path(&Digest::of(&*FILE)).exists(), "the partial file stays");
    }
}

pub fn ui() -> Ui {
    Ui::new(Verbosity::Quiet, ProgressMode::None)
}

pub fn wanted(urls: &[String]) -> PinnedFile {
    PinnedFile {
        name: "etcd.tar.gz".to_owned(),
        urls: urls.to_vec(),
        digest: Digest::of(&*FILE),
        size: Some(FILE.len() as u64),
    }
}

#[tokio::test]
async fn a_file_is_fetched_once_and_then_never_asked_for_again() {
    let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
    let url = server.on("/etcd", [FakeResponse::file(&FILE)]);
    let first = fixture.fetch(slice::from_ref(&url)).await.unwrap();
    assert_eq!(first.origin, FetchOrigin::Mirror(url.clone()));
    assert_eq!(first.size_bytes, FILE.len() as u64);
    let second = fixture.fetch(&[url]).await.unwrap();
    assert_eq!(second.origin, FetchOrigin::Store);
    assert_eq!(server.requests().len(), 1);
    fixture.assert_whole();
}

#[tokio::test]
async fn several_files_come_back_in_the_order_they_were_wanted() {
    let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
    let wanted: Vec<_> = (0..6_u64)
        .map(|n| {
            let body = n.to_le_bytes();
            let answer = FakeResponse::file(&body).delayed(Duration::from_millis(60 - 10 * n));
            let urls = vec![server.on(&format!("/{n}"), [answer])];
            PinnedFile { name: n.to_string(), urls, digest: Digest::of(body), size: None }
        })
        .collect();
    let fetched = fetch(&fixture.store, &wanted, &fixture.options, &ui()).await.unwrap();
    let names: Vec<_> = fetched.iter().map(|fetched| fetched.name.as_str()).collect();
    assert_eq!(names, ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn a_truncated_body_is_resumed_where_it_ended() {
    resumed(FakeResponse::file(&FILE).closed_after(100_000)).await;
}

#[tokio::test]
async fn a_reset_connection_is_resumed_where_it_broke() {
    resumed(FakeResponse::file(&FILE).reset_after(100_000)).await;
}

#[tokio::test]
async fn a_stalled_connection_is_given_up_and_resumed() {
    resumed(FakeResponse::file(&FILE).stalled_after(100_000)).await;
}

async fn resumed(first: FakeResponse) {
    let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
    let first = first.header("etag", "\"v1\"");
    let url = server.on("/etcd", [first, FakeResponse::file(&FILE)]);
    fixture.fetch(&[url]).await.unwrap();
    fixture.assert_whole();
    assert_eq!(server.received("range"), [None, Some("bytes=100000-".to_owned())]);
    assert_eq!(server.received("if-range"), [None, Some("\"v1\"".to_owned())]);
}

#[tokio::test]
async fn a_new_process_goes_on_where_a_killed_one_stopped() {
    let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
    fixture.leave(&FILE[..70_000]);
    fixture.fetch(&[server.on("/etcd", [FakeResponse::file(&FILE)])]).await.unwrap();
    fixture.assert_whole();
    assert_eq!(server.received("range"), [Some("bytes=70000-".to_owned())]);
    assert_eq!(server.received("if-range"), [None]);
}

#[tokio::test]
async fn a_process_killed_before_the_last_rename_needs_no_connection() {
    let fixture = FetchFixture::new();
    fixture.leave(&FILE);
    assert_eq!(fixture.fetch(&[]).await.unwrap().origin, FetchOrigin::Store);
    fixture.assert_whole();
}

#[tokio::test]
async fn a_corrupted_partial_file_is_thrown_away_and_blamed_on_nobody() {
    for left in [50_000, FILE.len(), FILE.len() + 1] {
        let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
        fixture.leave(&vec![7; left]);
        fixture.fetch(&[server.on("/etcd", [FakeResponse::file(&FILE)])]).await.unwrap();
        fixture.assert_whole();
        assert_eq!(server.received("range").last().unwrap(), &None, "{left}");
    }
}

#[tokio::test]
async fn a_server_without_ranges_sends_everything_again() {
    let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
    fixture.leave(&FILE[..70_000]);
    fixture
        .fetch(&[server.on("/etcd", [FakeResponse::file(&FILE).without_ranges()])])
        .await
        .unwrap();
    fixture.assert_whole();
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_lying_content_range_is_not_believed() {
    let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
    fixture.leave(&FILE[..70_000]);
    let lie = FakeResponse::status(206).header("content-range", "bytes 0-9/10");
    let url = server.on("/etcd", [lie, FakeResponse::file(&FILE)]);
    fixture.fetch(&[url]).await.unwrap();
    fixture.assert_whole();
    assert_eq!(server.received("range"), [Some("bytes=70000-".to_owned()), None]);
}

#[tokio::test]
async fn a_range_that_cannot_be_satisfied_starts_over() {
    let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
    fixture.leave(&FILE[..70_000]);
    let url = server.on("/etcd", [FakeResponse::status(416), FakeResponse::file(&FILE)]);
    fixture.fetch(&[url]).await.unwrap();
    fixture.assert_whole();
}

#[tokio::test]
async fn two_fetches_at_once_download_one_file_once() {
    let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
    let url = server.on("/etcd", [FakeResponse::file(&FILE).delayed(Duration::from_millis(200))]);
    let urls = [url];
    let (one, other) = tokio::join!(fixture.fetch(&urls), fixture.fetch(&urls));
    let origins = [one.unwrap().origin, other.unwrap().origin];
    assert!(origins.contains(&FetchOrigin::Store), "{origins:?}");
    assert_eq!(server.requests().len(), 1);
    fixture.assert_whole();
}

#[tokio::test]
async fn a_folder_can_be_a_mirror() {
    let (fixture, folder) = (FetchFixture::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("etcd.tar.gz");
    fs::write(&path, &*FILE).unwrap();
    let url = format!("file://{}", path.display());
    assert_eq!(
        fixture.fetch(slice::from_ref(&url)).await.unwrap().origin,
        FetchOrigin::Mirror(url)
    );
    fixture.assert_whole();
    assert!(path.exists(), "the mirror keeps its file");
}

#[tokio::test]
async fn an_encoded_body_is_taken_as_it_is() {
    let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
    let answer = FakeResponse::file(&FILE).header("content-encoding", "gzip");
    fixture.fetch(&[server.on("/etcd", [answer])]).await.unwrap();
    fixture.assert_whole();
    assert_eq!(server.received("accept-encoding"), [None]);
    let agent = concat!("etcdimg/", env!("CARGO_PKG_VERSION"));
    assert_eq!(server.received("user-agent"), [Some(agent.to_owned())]);
}

#[tokio::test]
async fn a_redirect_is_followed() {
    let (server, fixture) = (ReleaseServer::start(), FetchFixture::new());
    let to = server.on("/stored", [FakeResponse::file(&FILE)]);
    fixture.fetch(&[server.on("/etcd", [FakeResponse::redirect(&to)])]).await.unwrap();
    fixture.assert_whole();
}
