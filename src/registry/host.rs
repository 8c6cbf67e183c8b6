//! One registry, as all that work with it in this run share it.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Method;

use super::auth::{AuthError, Authorization, Desk};
use super::manners::Notebook;
use super::pace::Pace;
use super::scope::Scope;
use super::{Credentials, Manners, Repository};
use crate::digest::Digest;
use crate::fetch::Options;
use crate::http::{Client, Trust};
use crate::ui::Ui;

/// Between two looks at a repository that another process works in.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// How registries are reached, and who we are there.
#[derive(Clone, Debug)]
pub struct HostOptions {
    pub fetch: Options,
    pub trust: Trust,
    pub credentials: Arc<Credentials>,
    /// Where manners and uploads are remembered: the cache.
    pub folder: PathBuf,
    /// A longer blob is sent in pieces of this size: some registries keep what has arrived of a
    /// broken request, others only what came by whole ones.
    pub piece_bytes: u64,
    pub ui: Ui,
}

#[derive(Debug)]
pub struct Host {
    pub(super) options: HostOptions,
    pub(super) client: Client,
    pub(super) pace: Pace,
    pub(super) manners: Notebook,
    /// Sensitive values, never shown.
    authorizations: Mutex<BTreeMap<Scope, Authorization>>,
    /// One at a time asks for a token; the others then have it.
    desk: tokio::sync::Mutex<()>,
}

impl Host {
    pub fn new(registry: &str, options: HostOptions) -> Arc<Self> {
        let client =
            Client::for_uploads(options.fetch.connect_timeout).trusting(options.trust.clone());
        Arc::new(Self {
            manners: Notebook::open(&options.folder, registry),
            client,
            pace: Pace::new(),
            authorizations: Mutex::default(),
            desk: tokio::sync::Mutex::default(),
            options,
        })
    }

    /// The first wait for something that is only late.
    pub fn patience(&self) -> Duration {
        self.options.fetch.backoff
    }

    pub fn manners(&self) -> Manners {
        self.manners.read()
    }

    /// What one process holds while it changes a repository; a second one on this machine waits,
    /// and then finds the work done.
    pub async fn lock(&self, repository: &Repository) -> io::Result<File> {
        let folder = self.options.folder.join("registries");
        fs::create_dir_all(&folder)?;
        let name = Digest::of(repository.to_string()).short();
        let file = File::create(folder.join(format!("{name}.lock")))?;
        let mut is_said = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {}
            }
            if !is_said {
                self.options.ui.note(format!("{repository} is being pushed to already; waiting"));
                is_said = true;
            }
            // A wait that blocks could not be cancelled, nor leave others their turn.
            tokio::time::sleep(LOCK_PAUSE).await;
        }
    }

    /// Whether an insecure registry speaks TLS at all, be it with any certificate.
    pub async fn speaks_tls(&self, repository: &Repository) -> bool {
        let mut url = repository.root().clone();
        url.set_path("/v2/");
        let Ok(request) = self.client.request(Method::GET, url) else { return true };
        request.timeout(self.options.fetch.connect_timeout).send().await.is_ok()
    }

    /// What lets us in, if we know: from an earlier answer, or because the registry is known to
    /// want it and how.
    pub(super) async fn authorization(
        &self,
        repository: &Repository,
        scope: &Scope,
    ) -> Result<Option<Authorization>, AuthError> {
        let challenge = self.manners.read().challenge;
        match (self.known(scope), challenge) {
            (Some(known), _) if known.is_fresh() => Ok(Some(known)),
            // What is said unasked goes only where it is not overheard, which `answer` sees to.
            (known, Some(challenge)) => {
                let renewed = self.authorize(repository, scope, &challenge, known.as_ref()).await;
                // An old challenge may be of no use any more. The registry will say so.
                Ok(renewed.ok().or(known))
            }
            (known, None) => Ok(known),
        }
    }

    /// Answers a challenge, unless somebody else has done so since `refused` was sent.
    pub(super) async fn authorize(
        &self,
        repository: &Repository,
        scope: &Scope,
        challenge: &str,
        refused: Option<&Authorization>,
    ) -> Result<Authorization, AuthError> {
        let _turn = self.desk.lock().await;
        if let Some(known) = self.known(scope)
            && refused.is_none_or(|refused| refused.header != known.header)
            && known.is_fresh()
        {
            return Ok(known);
        }
        let HostOptions { fetch, credentials, .. } = &self.options;
        let desk = Desk { client: &self.client, options: fetch, credentials };
        let authorization = desk.answer(repository, scope, challenge).await?;
        self.manners.write(|manners| manners.challenge = Some(without_scope(challenge)));
        self.authorizations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(scope.clone(), authorization.clone());
        Ok(authorization)
    }

    fn known(&self, scope: &Scope) -> Option<Authorization> {
        let known = self.authorizations.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(scope).cloned()
    }
}

/// The part of a challenge that is the same for every repository.
fn without_scope(challenge: &str) -> String {
    let Some(start) = challenge.find("scope=\"") else { return challenge.to_owned() };
    let rest = &challenge[start + "scope=\"".len()..];
    let rest = rest.split_once('"').map_or("", |(_, rest)| rest);
    let head = challenge[..start].trim_end_matches([',', ' ']);
    let rest = rest.trim_start_matches([',', ' ']);
    let comma = if rest.is_empty() { "" } else { "," };
    format!("{head}{comma}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_remembered_without_what_was_asked() {
        for (challenge, expected) in [
            ("Basic realm=\"a\"", "Basic realm=\"a\""),
            (
                "Bearer realm=\"a\",service=\"b\",scope=\"c:d,e\"",
                "Bearer realm=\"a\",service=\"b\"",
            ),
            ("Bearer realm=\"a\",scope=\"c\",error=\"x\"", "Bearer realm=\"a\",error=\"x\""),
        ] {
            assert_eq!(without_scope(challenge), expected);
        }
    }
}
