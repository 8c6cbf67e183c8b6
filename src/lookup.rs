//! Looks digests up, for `etcdimg lock` alone: no input of a build comes through here.
//!
//! All mirrors that answer must agree.

use etcd_version::EtcdVersion;
use oci::document::Index;

use crate::catalog::Mirror;
use crate::digest::Digest;
use crate::fetch::http::{Client, Url};
use crate::fetch::{FetchOptions, short_body};
use crate::platform::Platform;
use crate::registry::{Registries, RegistryError};
use oci::Reference;

/// The file that a release publishes beside its archives.
const SUMS: &str = "SHA256SUMS";

/// Why a digest cannot be looked up.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    #[error("no mirror has the digest of `{file}`\n  {}", tried.join("\n  "))]
    NoSum { file: String, tried: Vec<String> },
    #[error("mirrors disagree about `{file}`\n  {}", said.join("\n  "))]
    Disagree { file: String, said: Vec<String> },
    #[error("`{reference}` cannot be read: {why}")]
    Base { reference: String, why: String },
    #[error("`{reference}` has no image for {platform}")]
    NoPlatform { reference: String, platform: Platform },
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Asks mirrors of releases and registries for digests.
#[derive(Debug)]
pub struct Lookup<'a> {
    options: &'a FetchOptions,
    registries: &'a Registries,
    client: Client,
}

impl<'a> Lookup<'a> {
    pub fn new(options: &'a FetchOptions, registries: &'a Registries) -> Self {
        let client = Client::new(options.connect_timeout, options.stall_timeout);
        let client = client.trusting(options.trust.clone());
        Self { options, registries, client }
    }

    /// The published sum of a release archive, and the size that the first mirror announces.
    pub async fn release(
        &self,
        mirrors: impl Iterator<Item = &Mirror>,
        version: &EtcdVersion,
        file: &str,
    ) -> Result<(Digest, Option<u64>), LookupError> {
        let (mut said, mut tried) = (Vec::new(), Vec::new());
        for mirror in mirrors {
            let url = mirror.url(version, SUMS);
            match self.sums(&url).await {
                Ok(sums) => match sum(&sums, file) {
                    Some(digest) => said.push((mirror.url(version, file), digest)),
                    None => tried.push(format!("{url}: has no line for it")),
                },
                Err(error) => tried.push(error),
            }
        }
        let Some((url, digest)) = said.first() else {
            return Err(LookupError::NoSum { file: file.to_owned(), tried });
        };
        if said.iter().all(|(_, other)| other == digest) {
            return Ok((*digest, self.announced_size(url).await));
        }
        let said = said.iter().map(|(url, digest)| format!("{digest} {url}")).collect();
        Err(LookupError::Disagree { file: file.to_owned(), said })
    }

    /// Only for progress bars and for refusing early; the digest decides.
    async fn announced_size(&self, url: &str) -> Option<u64> {
        if let Some(path) = url.strip_prefix("file://") {
            return std::fs::metadata(path).ok().map(|metadata| metadata.len());
        }
        // The body is not read: dropping the response ends the request.
        let response = self.client.get(Url::parse(url).ok()?).ok()?.send().await.ok()?;
        response.status().is_success().then(|| response.content_length()).flatten()
    }

    async fn sums(&self, url: &str) -> Result<String, String> {
        if let Some(path) = url.strip_prefix("file://") {
            return std::fs::read_to_string(path).map_err(|error| format!("{url}: {error}"));
        }
        let parsed = Url::parse(url).map_err(|error| format!("{url}: {error}"))?;
        let request = |client: &Client| client.get(parsed.clone());
        let sums = short_body(&self.client, self.options, &parsed, request).await;
        let bytes = sums.map_err(|failure| failure.to_string())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The digest that a tag names now, and those of the platforms' manifests.
    pub async fn base(
        &self,
        reference: &str,
        platforms: &[Platform],
    ) -> Result<(Digest, Vec<(Platform, Digest)>), LookupError> {
        let unreadable = |why: String| LookupError::Base { reference: reference.to_owned(), why };
        let named: Reference = reference.parse().map_err(|error| unreadable(format!("{error}")))?;
        if named.tag.is_none() {
            return Err(unreadable("it has no tag".to_owned()));
        }
        let remote = self.registries.pull_from(&named.repository).await;
        let tagged = Reference { digest: None, ..named };
        let found = remote.get_manifest(&tagged).await?;
        let document = found.ok_or_else(|| unreadable("it does not exist".to_owned()))?;
        let index: Index = serde_json::from_slice(&document.bytes)
            .map_err(|error| unreadable(error.to_string()))?;
        let manifest = |platform: &Platform| {
            let found = index.manifests.iter().find(|it| crate::base::is_for(it, platform));
            let missing = || LookupError::NoPlatform {
                reference: reference.to_owned(),
                platform: platform.clone(),
            };
            Ok((platform.clone(), found.ok_or_else(missing)?.digest))
        };
        let manifests = platforms.iter().map(manifest).collect::<Result<_, LookupError>>()?;
        Ok((document.digest, manifests))
    }
}

/// `<64 hex digits>  <file>`, as sha256sum writes it; `*` marks a binary file.
fn sum(sums: &str, file: &str) -> Option<Digest> {
    let mut lines = sums.lines().filter_map(|line| line.split_once(char::is_whitespace));
    let (digits, _) = lines.find(|(_, name)| name.trim_start().trim_start_matches('*') == file)?;
    format!("sha256:{digits}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_read_as_sha256sum_writes_them() {
        let (a, b) = (Digest::of("a"), Digest::of("b"));
        let text = format!("{}  etcd-a.tar.gz\n{} *etcd-b.tar.gz\nnonsense\n", a.hex(), b.hex());
        assert_eq!(sum(&text, "etcd-a.tar.gz"), Some(a));
        assert_eq!(sum(&text, "etcd-b.tar.gz"), Some(b));
        assert_eq!(sum(&text, "b.tar.gz"), None);
    }
}
