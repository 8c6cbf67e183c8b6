//! One lying registry, one parcel and a cache: where the pushes of these tests begin and end.

use std::sync::Arc;
use std::time::Duration;

use etcdimg::digest::Digest;
use etcdimg::fetch::FetchOptions;
use etcdimg::push::{Overwrite, PushError, PushPlan, PushReport, Pusher};
use etcdimg::registry::{
    BlobSource, CHUNK_BYTES, Credentials, Login, Registry, RegistryOptions, RemoteRepository,
};
use oci::Repository;
use tempfile::TempDir;

use crate::fetch::ui;
use crate::lies::{Habits, Lie};
use crate::lying_registry::LyingRegistry;
use crate::parcel::Parcel;
use crate::shop::without_digests;

pub const ONCE: (usize, usize) = (0, 1);
pub const ALWAYS: (usize, usize) = (0, usize::MAX);

/// One registry, one parcel, and a cache.
pub struct Bench {
    pub registry: LyingRegistry,
    pub parcel: Parcel,
    pub cache: TempDir,
    pub sources: Vec<String>,
    pub overwrite: Overwrite,
    pub credentials: Option<Login>,
    pub chunk_bytes: u64,
}

impl Bench {
    pub fn new(registry: LyingRegistry) -> Self {
        Self {
            registry,
            parcel: Parcel::small(),
            cache: tempfile::tempdir().unwrap(),
            sources: Vec::new(),
            overwrite: Overwrite::Never,
            credentials: None,
            chunk_bytes: CHUNK_BYTES,
        }
    }

    pub fn honest() -> Self {
        Self::new(LyingRegistry::start(Habits::default()))
    }

    pub fn lying(method: &'static str, part: &str, turns: (usize, usize), lie: Lie) -> Self {
        Self::new(LyingRegistry::start(Habits::default()).lie(method, part, turns, lie))
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

    /// As a process of its own would see the registry.
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
            progress: Arc::new(ui()),
        };
        let registry = Registry::new(repository.registry(), options);
        RemoteRepository::pushing(registry, repository, &self.sources)
    }

    pub async fn push(&self) -> Result<PushReport, PushError> {
        self.push_parcel(&self.parcel).await
    }

    pub async fn push_parcel(&self, parcel: &Parcel) -> Result<PushReport, PushError> {
        self.push_plan(parcel, &parcel.plan()).await
    }

    pub async fn push_plan(
        &self,
        parcel: &Parcel,
        plan: &PushPlan,
    ) -> Result<PushReport, PushError> {
        let (remote, ui, layout) = (self.remote(), ui(), parcel.layout());
        let _lock = remote.registry().lock(remote.repository()).await.unwrap();
        let pusher = Pusher {
            remote: &remote,
            mount_sources: &self.sources,
            source: &|digest| BlobSource::File(layout.blob_path(digest)),
            overwrite: self.overwrite,
            ui: &ui,
        };
        pusher.push(plan).await
    }

    /// The push goes well, and everything is where it should be.
    pub async fn arrives(self) -> (Self, PushReport) {
        let report = self.push().await.unwrap_or_else(|error| panic!("{error}"));
        self.assert_there(&self.parcel);
        (self, report)
    }

    pub fn assert_there(&self, parcel: &Parcel) {
        let (plan, state) = (parcel.plan(), self.registry.state());
        let key = |digest| ("etcd".to_owned(), digest);
        for piece in &plan.blobs {
            let there = state.blobs.get(&key(piece.digest));
            assert_eq!(there.map(Digest::of), Some(piece.digest));
        }
        for manifest in plan.manifests.iter().chain(&plan.root) {
            let (media_type, bytes) = &state.manifests[&key(manifest.digest)];
            assert_eq!(**bytes, *manifest.bytes);
            assert_eq!(*media_type, manifest.media_type);
        }
        let tag = state.tags.get(&("etcd".to_owned(), parcel.tag.clone()));
        assert_eq!(tag, Some(&parcel.index));
        assert_eq!(state.violations, Vec::<String>::new());
    }

    /// The push fails with this, and no tag is there that was not.
    pub async fn fails(self) -> String {
        let tags = self.registry.state().tags.clone();
        let error = self.push().await.expect_err("it should fail");
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
}

pub fn habits(change: impl FnOnce(&mut Habits)) -> LyingRegistry {
    let mut habits = Habits::default();
    change(&mut habits);
    LyingRegistry::start(habits)
}
