//! Manifests and indexes of a repository, and the tags that name them.

use std::sync::Arc;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, LINK};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::answer::Answer;
use super::error::check_digest;
use super::payload::Payload;
use super::remote::Call;
use super::{MANIFEST_TYPES, Naming, Remote, RemoteError};
use crate::digest::Digest;

/// What a registry that knows `subject` answers with (distribution-spec 1.1).
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// Nobody has more tags or referrers than these pages hold.
const MOST_PAGES: usize = 1000;

/// A document as a registry has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Manifest {
    pub media_type: String,
    pub digest: Digest,
    pub bytes: Arc<[u8]>,
}

impl std::fmt::Debug for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.media_type, self.digest)
    }
}

impl Manifest {
    pub fn new(media_type: impl Into<String>, bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        Self { media_type: media_type.into(), digest: Digest::of(&bytes), bytes }
    }
}

/// What came of handing over a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// The registry lists it among the referrers of its subject.
    AsReferrer,
    /// It does not know of subjects, or there is none.
    ByDigest,
}

/// Why a registry took no manifest.
#[derive(Debug)]
pub enum Unwanted {
    /// It misses something that the manifest names, or does not see it yet.
    Incomplete(RemoteError),
    Other(RemoteError),
}

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Remote {
    /// What a tag names now.
    pub async fn tagged(&self, tag: &str) -> Result<Option<Digest>, RemoteError> {
        let what = format!("ask {} what {tag} names", self.repository());
        let url = self.repository().tag_url(tag);
        let call = Call::new(Method::HEAD, url).header(ACCEPT, MANIFEST_TYPES);
        let answer = self.ask(&what, &call).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => match answer.digest() {
                Some(digest) => Ok(Some(digest)),
                // The header is a favour; the bytes are the truth.
                None => Ok(self.manifest_at(&what, tag).await?.map(|manifest| manifest.digest)),
            },
            // Old ones know no HEAD here.
            StatusCode::METHOD_NOT_ALLOWED => {
                Ok(self.manifest_at(&what, tag).await?.map(|manifest| manifest.digest))
            }
            _ => Err(RemoteError::refused(&what, &answer)),
        }
    }

    /// A document by its digest, or by a tag; nothing when it is not there.
    pub async fn manifest(&self, naming: &Naming) -> Result<Option<Manifest>, RemoteError> {
        let what = format!("pull {naming}");
        let Some(expected) = naming.digest else {
            let tag = naming.tag.as_deref().unwrap_or("latest");
            return self.manifest_at(&what, tag).await;
        };
        let Some(manifest) = self.manifest_at(&what, &expected.to_string()).await? else {
            return Ok(None);
        };
        if manifest.digest != expected {
            let received = manifest.digest;
            return Err(RemoteError::WrongDigest { what, expected, received });
        }
        Ok(Some(manifest))
    }

    async fn manifest_at(&self, what: &str, name: &str) -> Result<Option<Manifest>, RemoteError> {
        let url = self.repository().tag_url(name);
        let call = Call::new(Method::GET, url).header(ACCEPT, MANIFEST_TYPES);
        let answer = self.ask(what, &call).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => {
                let media_type = answer.text(&CONTENT_TYPE).unwrap_or_default();
                let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
                let manifest = Manifest::new(media_type, answer.body);
                Ok(Some(manifest))
            }
            _ => Err(RemoteError::refused(what, &answer)),
        }
    }

    /// Hands over a document, under its digest or a tag.
    pub async fn put_manifest(
        &self,
        manifest: &Manifest,
        tag: Option<&str>,
    ) -> Result<Known, Unwanted> {
        let digest = manifest.digest;
        let name = tag.map_or_else(|| digest.to_string(), ToOwned::to_owned);
        let what = match tag {
            Some(tag) => format!("tag {} in {} as {tag}", digest.short(), self.repository()),
            None => format!("push the manifest {} to {}", digest.short(), self.repository()),
        };
        let call = Call::new(Method::PUT, self.repository().tag_url(&name))
            .header(CONTENT_TYPE, &manifest.media_type)
            .with(Payload::Bytes(manifest.bytes.clone()));
        let answer = self.ask(&what, &call).await.map_err(Unwanted::Other)?;
        match answer.status {
            StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED => {
                check_digest(&what, &answer, digest).map_err(Unwanted::Other)?;
                let knows = answer.headers.contains_key(SUBJECT);
                Ok(if knows { Known::AsReferrer } else { Known::ByDigest })
            }
            _ if is_incomplete(&answer) => {
                Err(Unwanted::Incomplete(RemoteError::refused(&what, &answer)))
            }
            _ => Err(Unwanted::Other(RemoteError::refused(&what, &answer))),
        }
    }

    /// All tags; none when nobody has pushed yet.
    pub async fn tags(&self) -> Result<Vec<String>, RemoteError> {
        let what = format!("list the tags of {}", self.repository());
        let (mut all, mut next) = (Vec::new(), Some(self.repository().at("tags/list")));
        for _ in 0..MOST_PAGES {
            let Some(url) = next else { break };
            let answer = self.ask(&what, &Call::new(Method::GET, url)).await?;
            match answer.status {
                StatusCode::NOT_FOUND => break,
                StatusCode::OK => {}
                _ => return Err(RemoteError::refused(&what, &answer)),
            }
            let tags: Tags = serde_json::from_slice(&answer.body)
                .map_err(|_| RemoteError::senseless(&what, "no list of tags"))?;
            all.extend(tags.tags.unwrap_or_default());
            next = next_page(&answer);
        }
        Ok(all)
    }

    /// Descriptors of what refers to a document: by the API, or by the tag that stands in for it
    /// (distribution-spec, "Referrers Tag Schema").
    pub async fn referrers(&self, digest: &Digest) -> Result<Vec<serde_json::Value>, RemoteError> {
        let what = format!("ask {} what refers to {}", self.repository(), digest.short());
        let (mut all, mut next) =
            (Vec::new(), Some(self.repository().at(&format!("referrers/{digest}"))));
        for page in 0..MOST_PAGES {
            let Some(url) = next else { break };
            let answer = self.ask(&what, &Call::new(Method::GET, url)).await?;
            match answer.status {
                StatusCode::OK => {}
                // No API, or one that is not for us: the tag is what is left.
                _ if page == 0 => return self.referrers_by_tag(&what, digest).await,
                _ => return Err(RemoteError::refused(&what, &answer)),
            }
            all.extend(manifests(&answer.body));
            next = next_page(&answer);
        }
        Ok(all)
    }

    async fn referrers_by_tag(
        &self,
        what: &str,
        digest: &Digest,
    ) -> Result<Vec<serde_json::Value>, RemoteError> {
        let found = self.manifest_at(what, &referrers_tag(digest)).await?;
        Ok(found.map(|index| manifests(&index.bytes)).unwrap_or_default())
    }
}

/// `sha256-<hex>`
pub fn referrers_tag(digest: &Digest) -> String {
    digest.to_string().replace(':', "-")
}

/// Registries call what they miss by several names.
fn is_incomplete(answer: &Answer) -> bool {
    let is_about_content = matches!(answer.status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND);
    let codes = ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"];
    is_about_content && answer.has_code(&codes)
}

fn manifests(index: &[u8]) -> Vec<serde_json::Value> {
    let index: serde_json::Value = serde_json::from_slice(index).unwrap_or_default();
    index["manifests"].as_array().cloned().unwrap_or_default()
}

/// `Link: </v2/etcd/tags/list?last=b>; rel="next"` (RFC 5988).
fn next_page(answer: &Answer) -> Option<Url> {
    let link = answer.text(&LINK)?;
    let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    let url = answer.url.join(target).ok().filter(|_| rest.contains("next"))?;
    (url.origin() == answer.url.origin()).then_some(url)
}
