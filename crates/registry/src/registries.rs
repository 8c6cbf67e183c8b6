//! The registries of one run, each with the one client that all its repositories share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Registry, RegistryOptions, RemoteRepository};
use oci::Repository;

/// The registries of one run. A client is made when a repository of its registry is first used.
#[derive(Debug)]
pub struct Registries {
    options: RegistryOptions,
    by_name: Mutex<BTreeMap<String, Arc<Registry>>>,
}

impl Registries {
    pub fn new(options: RegistryOptions) -> Self {
        Self { options, by_name: Mutex::default() }
    }

    /// To read from a repository.
    pub async fn pull_from(&self, repository: &Repository) -> RemoteRepository {
        let repository = self.with_scheme(repository).await;
        RemoteRepository::pulling(self.registry(&repository), repository)
    }

    /// To write into a repository; `mount_sources` are paths of other repositories in the same
    /// registry that blobs may be mounted from.
    pub async fn push_to(
        &self,
        repository: &Repository,
        mount_sources: &[String],
    ) -> RemoteRepository {
        let repository = self.with_scheme(repository).await;
        RemoteRepository::pushing(self.registry(&repository), repository, mount_sources)
    }

    fn registry(&self, repository: &Repository) -> Arc<Registry> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let name = repository.registry();
        let make = || Registry::new(name, self.options.clone());
        Arc::clone(by_name.entry(name.to_owned()).or_insert_with(make))
    }

    /// A registry that was named as insecure may have no TLS at all, which only a request shows.
    async fn with_scheme(&self, repository: &Repository) -> Repository {
        let is_insecure = self.options.fetch.trust.is_unverified(repository.root());
        if is_insecure && !self.registry(repository).speaks_tls(repository).await {
            return repository.in_plain_http();
        }
        repository.clone()
    }
}
