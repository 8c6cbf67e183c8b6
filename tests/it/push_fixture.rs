//! A layout, a lying registry and a cache: the source and the destination of a push.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcdimg::digest::Digest;
use etcdimg::fetch::{FetchOptions, Progress, TransferListener};
use etcdimg::push::{Overwrite, PushError, PushPlan, PushReport, Pusher};
use etcdimg::registry::{
    BlobSource, CHUNK_BYTES, Credentials, Login, Registry, RegistryOptions, RemoteRepository,
};
use oci::Repository;
use tempfile::TempDir;

use crate::catalog_fixture::without_digests;
use crate::fetch::ui;
use crate::layout_fixture::LayoutFixture;
use crate::lies::{Behaviour, Lie};
use crate::lying_registry::LyingRegistry;
use crate::wire::ReceivedRequest;

pub const ONCE: (usize, usize) = (0, 1);
pub const ALWAYS: (usize, usize) = (0, usize::MAX);

/// One registry, one layout, and a cache.
pub struct PushFixture {
    pub registry: LyingRegistry,
    pub layout: LayoutFixture,
    pub cache: TempDir,
    pub sources: Vec<String>,
    pub overwrite: Overwrite,
    pub credentials: Option<Login>,
    pub chunk_bytes: u64,
    /// What the client reported about its requests.
    pub said: Arc<Said>,
}

/// Keeps the statuses that are reported.
#[derive(Debug, Default)]
pub struct Said(Mutex<Vec<String>>);

impl Said {
    /// `Retrying` and why, one for each time.
    pub fn statuses(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Progress for Said {
    fn status(&self, verb: &str, text: &str) {
        self.0.lock().unwrap().push(format!("{verb} {text}"));
    }

    fn note(&self, _text: &str) {}

    fn warning(&self, _text: &str) {}

    fn download(&self, _name: &str, _total: Option<u64>) -> TransferListener {
        Box::new(|_| {})
    }
}

impl PushFixture {
    pub fn new(registry: LyingRegistry) -> Self {
        Self {
            registry,
            layout: LayoutFixture::small(),
            cache: tempfile::tempdir().unwrap(),
            sources: Vec::new(),
            overwrite: Overwrite::Never,
            credentials: None,
            chunk_bytes: CHUNK_BYTES,
            said: Arc::default(),
        }
    }

    pub fn honest() -> Self {
        Self::new(LyingRegistry::start(Behaviour::default()))
    }

    pub fn lying(method: &'static str, part: &str, turns: (usize, usize), lie: Lie) -> Self {
        Self::new(LyingRegistry::start(Behaviour::default()).lie(method, part, turns, lie))
    }

    pub fn and(
        mut self,
        method: &'static str,
        part: &str,
        turns: (usize, usize),
        lie: Lie,
    ) -> Self {
        self.registry = self.registry.lie(method, part, turns, lie);
        self
    }

    pub fn repository(&self) -> Repository {
        format!("{}/etcd", self.registry.host()).parse().unwrap()
    }

    /// A new client of the registry, as a new process would have.
    pub fn remote(&self) -> RemoteRepository {
        let repository = self.repository();
        let mut credentials = Credentials::default();
        if let Some(login) = &self.credentials {
            credentials.give(repository.registry(), login.clone());
        }
        let fetch = FetchOptions {
            connect_timeout: Duration::from_secs(2),
            stall_timeout: Duration::from_millis(400),
            backoff: Duration::from_millis(4),
            longest_wait: Duration::from_millis(400),
            ..FetchOptions::default()
        };
        let options = RegistryOptions {
            fetch,
            credentials: Arc::new(credentials),
            cache_dir: self.cache.path().to_owned(),
            chunk_bytes: self.chunk_bytes,
            progress: self.said.clone(),
        };
        let registry = Registry::new(repository.registry(), options);
        RemoteRepository::pushing(registry, repository, &self.sources)
    }

    pub async fn push(&self) -> Result<PushReport, PushError> {
        self.push_layout(&self.layout).await
    }

    pub async fn push_layout(&self, layout: &LayoutFixture) -> Result<PushReport, PushError> {
        self.push_plan(layout, &layout.plan()).await
    }

    pub async fn push_plan(
        &self,
        layout: &LayoutFixture,
        plan: &PushPlan,
    ) -> Result<PushReport, PushError> {
        let (remote, ui, opened) = (self.remote(), ui(), layout.layout());
        let _lock = remote.registry().lock(remote.repository()).await.unwrap();
        let pusher = Pusher {
            remote: &remote,
            mount_sources: &self.sources,
            source: &|digest| BlobSource::File(opened.blob_path(digest)),
            overwrite: self.overwrite,
            ui: &ui,
        };
        pusher.push(plan).await
    }

    /// The push goes well in spite of each lie, and everything is where it should be.
    pub async fn arrives(self) -> (Self, PushReport) {
        let report = self.push().await.unwrap_or_else(|error| panic!("{error}"));
        self.registry.assert_each_lie_was_told();
        self.assert_there(&self.layout);
        (self, report)
    }

    pub fn assert_there(&self, layout: &LayoutFixture) {
        let (plan, state) = (layout.plan(), self.registry.state());
        let key = |digest| ("etcd".to_owned(), digest);
        for blob in &plan.blobs {
            let there = state.blobs.get(&key(blob.digest));
            assert_eq!(there.map(Digest::of), Some(blob.digest));
        }
        for manifest in plan.manifests.iter().chain(&plan.root) {
            let (media_type, bytes) = &state.manifests[&key(manifest.digest)];
            assert_eq!(**bytes, *manifest.bytes);
            assert_eq!(*media_type, manifest.media_type);
        }
        let tag = state.tags.get(&("etcd".to_owned(), layout.tag.clone()));
        assert_eq!(tag, Some(&layout.index));
        assert_eq!(state.violations, Vec::<String>::new());
    }

    /// Pushes, which must fail and must not set a tag. Returns the error.
    pub async fn fails(self) -> String {
        let tags = self.registry.state().tags.clone();
        let error = self.push().await.expect_err("it should fail");
        self.registry.assert_each_lie_was_told();
        assert_eq!(self.registry.state().tags, tags);
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            text = format!("{text}\n  because: {error}");
            source = error.source();
        }
        without_digests(&text.replace(&self.registry.host(), "registry"))
    }

    pub fn received(&self) -> u64 {
        self.registry.state().received
    }

    /// The lengths of the bodies of uploads, by method, in order.
    pub fn upload_lengths(&self, method: &str) -> Vec<usize> {
        let state = self.registry.state();
        let is_upload =
            |it: &&ReceivedRequest| it.method == method && it.target.contains("uploads");
        state.requests.iter().filter(is_upload).map(|it| it.length).collect()
    }
}

pub fn behaving(change: impl FnOnce(&mut Behaviour)) -> LyingRegistry {
    let mut behaviour = Behaviour::default();
    change(&mut behaviour);
    LyingRegistry::start(behaviour)
}
