use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::sync::{Arc, Mutex, PoisonError};

use super::context::Context;
use crate::cli::AccessArgs;
use crate::failure::{Failure, Kind};
use crate::fetch::Options;
use crate::http::Trust;
use crate::registry::{
    Credentials, Host, HostOptions, Login, PIECE, Puller, Remote, Repository, Secret,
};
use crate::store::Store;

/// The registries of one command, each with the one client that all its repositories share.
pub(super) struct Access {
    options: HostOptions,
    insecure: BTreeSet<String>,
    hosts: Mutex<BTreeMap<String, Arc<Host>>>,
}

impl Access {
    /// `registries` are those that a user named on the command line belongs to.
    pub(super) fn new(
        context: &Context,
        arguments: &AccessArgs,
        registries: &[&str],
    ) -> Result<Self, Failure> {
        if context.is_offline {
            return Err(Failure::new(Kind::Unavailable, "--offline forbids to ask a registry"));
        }
        let mut credentials = Credentials::from_environment()?;
        if let Some(user) = &arguments.username {
            let login = Login::password(user, &password()?)
                .ok_or_else(|| Failure::new(Kind::Other, "no such user name can be sent"))?;
            for registry in registries {
                credentials.give(registry, login.clone());
            }
        }
        let trust = Trust {
            authorities: authorities(arguments)?,
            unverified: arguments.insecure_registry.iter().cloned().collect(),
        };
        let options = HostOptions {
            fetch: Options::default(),
            trust,
            credentials: Arc::new(credentials),
            folder: context.store()?.root().to_owned(),
            piece_bytes: PIECE,
            ui: context.ui.clone(),
        };
        let insecure = arguments.insecure_registry.iter().cloned().collect();
        Ok(Self { options, insecure, hosts: Mutex::default() })
    }

    pub(super) fn host(&self, repository: &Repository) -> Arc<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let registry = repository.registry();
        let make = || Host::new(registry, self.options.clone());
        Arc::clone(hosts.entry(registry.to_owned()).or_insert_with(make))
    }

    pub(super) async fn pushing(&self, repository: &Repository, sources: &[String]) -> Remote {
        let repository = self.reach(repository).await;
        Remote::pushing(self.host(&repository), repository, sources)
    }

    pub(super) async fn pulling(&self, repository: &Repository) -> Remote {
        let repository = self.reach(repository).await;
        Remote::pulling(self.host(&repository), repository)
    }

    /// For blobs that come into the store.
    pub(super) fn puller<'a>(&'a self, store: &'a Store) -> Puller<'a> {
        let HostOptions { fetch, trust, credentials, ui, .. } = &self.options;
        Puller::new(store, fetch, ui, Arc::clone(credentials)).trusting(trust.clone())
    }

    /// An insecure registry without TLS is found by asking.
    async fn reach(&self, repository: &Repository) -> Repository {
        let registry = repository.registry();
        let name = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
        let is_insecure = self.insecure.contains(registry) || self.insecure.contains(name);
        if is_insecure && !self.host(repository).speaks_tls(repository).await {
            return repository.in_plain_http();
        }
        repository.clone()
    }
}

fn authorities(arguments: &AccessArgs) -> Result<Vec<u8>, Failure> {
    let Some(path) = &arguments.ca_file else { return Ok(Vec::new()) };
    let place = || format!("cannot use `{}`", path.display());
    let pem = fs::read(path).map_err(|error| Failure::new(Kind::Io, error).hint(place()))?;
    Trust::check(&pem).map_err(|error| Failure::new(Kind::Other, error).hint(place()))?;
    Ok(pem)
}

/// What came by standard input, without the end of its line.
fn password() -> Result<Secret, Failure> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(|error| Failure::new(Kind::Io, error))?;
    Ok(Secret::new(text.trim_end_matches(['\n', '\r'])))
}
