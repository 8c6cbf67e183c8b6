//! Documents of a repository (manifests and indexes), the tags that name them, and referrers.

use std::sync::Arc;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, LINK};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::error::check_digest;
use super::payload::Payload;
use super::request::Request;
use super::response::Response;
use super::{MANIFEST_TYPES, RegistryError, RemoteRepository};
use oci::Reference;
use oci::digest::Digest;

/// The response of a registry that supports `subject` has this header (distribution-spec 1.1).
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// Longer lists are cut off here, so that a registry cannot keep us asking for ever.
const MOST_PAGES: usize = 1000;

/// An image manifest or an index, with the exact bytes that its digest is of.
#[derive(Clone, PartialEq, Eq)]
pub struct RawDocument {
    pub media_type: String,
    pub digest: Digest,
    pub bytes: Arc<[u8]>,
}

impl std::fmt::Debug for RawDocument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.media_type, self.digest)
    }
}

impl RawDocument {
    pub fn new(media_type: impl Into<String>, bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        Self { media_type: media_type.into(), digest: Digest::of(&bytes), bytes }
    }
}

/// Whether a registry keeps the list of referrers by itself (distribution-spec, "Pushing Manifests
/// with Subject").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectSupport {
    /// The registry lists the document among the referrers of its subject.
    Supported,
    /// The registry does not, or the document has no subject.
    Unsupported,
}

/// Why a registry did not accept a document.
#[derive(Debug)]
pub enum PutManifestError {
    /// The registry misses something that the document names, or does not see it yet.
    BlobUnknown(RegistryError),
    Other(RegistryError),
}

#[derive(Deserialize)]
struct TagList {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// Entries whose digest cannot be read are passed over.
#[derive(Default, Deserialize)]
struct ReferrerIndex {
    #[serde(default)]
    manifests: Vec<serde_json::Value>,
}

impl RemoteRepository {
    /// The digest that a tag names now; `None` if there is no such tag.
    pub async fn tag_digest(&self, tag: &str) -> Result<Option<Digest>, RegistryError> {
        let what = format!("ask {} what {tag} names", self.repository());
        let url = self.repository().tag_url(tag);
        let request = Request::new(Method::HEAD, url).header(ACCEPT, MANIFEST_TYPES);
        let response = self.send(&what, &request).await?;
        match response.status {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => match response.digest() {
                Some(digest) => Ok(Some(digest)),
                // `Docker-Content-Digest` is optional, so compute the digest from the body.
                None => Ok(self.manifest_at(&what, tag).await?.map(|manifest| manifest.digest)),
            },
            // Old registries do not support HEAD here.
            StatusCode::METHOD_NOT_ALLOWED => {
                Ok(self.manifest_at(&what, tag).await?.map(|manifest| manifest.digest))
            }
            _ => Err(RegistryError::refused(&what, &response)),
        }
    }

    /// A document by its digest, or by a tag; `None` if it does not exist.
    pub async fn get_manifest(
        &self,
        reference: &Reference,
    ) -> Result<Option<RawDocument>, RegistryError> {
        let what = format!("pull {reference}");
        let Some(expected) = reference.digest else {
            let tag = reference.tag.as_deref().unwrap_or("latest");
            return self.manifest_at(&what, tag).await;
        };
        let Some(manifest) = self.manifest_at(&what, &expected.to_string()).await? else {
            return Ok(None);
        };
        if manifest.digest != expected {
            let received = manifest.digest;
            return Err(RegistryError::WrongDigest { what, expected, received });
        }
        Ok(Some(manifest))
    }

    async fn manifest_at(
        &self,
        what: &str,
        name: &str,
    ) -> Result<Option<RawDocument>, RegistryError> {
        let url = self.repository().tag_url(name);
        let request = Request::new(Method::GET, url).header(ACCEPT, MANIFEST_TYPES);
        let response = self.send(what, &request).await?;
        match response.status {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => {
                let media_type = response.text(&CONTENT_TYPE).unwrap_or_default();
                let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
                let manifest = RawDocument::new(media_type, response.body);
                Ok(Some(manifest))
            }
            _ => Err(RegistryError::refused(what, &response)),
        }
    }

    /// Sends a document, to be found by its digest or by a tag.
    pub async fn put_manifest(
        &self,
        manifest: &RawDocument,
        tag: Option<&str>,
    ) -> Result<SubjectSupport, PutManifestError> {
        let digest = manifest.digest;
        let name = tag.map_or_else(|| digest.to_string(), ToOwned::to_owned);
        let what = match tag {
            Some(tag) => format!("tag {} in {} as {tag}", digest.short(), self.repository()),
            None => format!("push the manifest {} to {}", digest.short(), self.repository()),
        };
        let request = Request::new(Method::PUT, self.repository().tag_url(&name))
            .header(CONTENT_TYPE, &manifest.media_type)
            .with(Payload::Bytes(manifest.bytes.clone()));
        let response = self.send(&what, &request).await.map_err(PutManifestError::Other)?;
        match response.status {
            StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED => {
                check_digest(&what, &response, digest).map_err(PutManifestError::Other)?;
                let is_listed = response.headers.contains_key(SUBJECT);
                Ok(if is_listed { SubjectSupport::Supported } else { SubjectSupport::Unsupported })
            }
            _ if is_blob_unknown(&response) => {
                Err(PutManifestError::BlobUnknown(RegistryError::refused(&what, &response)))
            }
            _ => Err(PutManifestError::Other(RegistryError::refused(&what, &response))),
        }
    }

    /// All tags; none if the repository does not exist yet.
    pub async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        let what = format!("list the tags of {}", self.repository());
        let (mut all, mut next) = (Vec::new(), Some(self.repository().at("tags/list")));
        for _ in 0..MOST_PAGES {
            let Some(url) = next else { break };
            let response = self.send(&what, &Request::new(Method::GET, url)).await?;
            match response.status {
                StatusCode::NOT_FOUND => break,
                StatusCode::OK => {}
                _ => return Err(RegistryError::refused(&what, &response)),
            }
            let list: TagList = serde_json::from_slice(&response.body)
                .map_err(|_| RegistryError::unexpected(&what, "it is no list of tags"))?;
            all.extend(list.tags.unwrap_or_default());
            next = next_page(&response);
        }
        Ok(all)
    }

    /// The digests of what refers to a document: by the API, or by the tag that replaces it
    /// (distribution-spec, "Referrers Tag Schema").
    pub async fn referrers(&self, digest: &Digest) -> Result<Vec<Digest>, RegistryError> {
        let what = format!("ask {} what refers to {}", self.repository(), digest.short());
        let (mut all, mut next) =
            (Vec::new(), Some(self.repository().at(&format!("referrers/{digest}"))));
        for page in 0..MOST_PAGES {
            let Some(url) = next else { break };
            let response = self.send(&what, &Request::new(Method::GET, url)).await?;
            match response.status {
                StatusCode::OK => {}
                // There is no such API, or it is not allowed.
                _ if page == 0 => return self.referrers_by_tag(&what, digest).await,
                _ => return Err(RegistryError::refused(&what, &response)),
            }
            all.extend(listed(&response.body));
            next = next_page(&response);
        }
        Ok(all)
    }

    async fn referrers_by_tag(
        &self,
        what: &str,
        digest: &Digest,
    ) -> Result<Vec<Digest>, RegistryError> {
        let found = self.manifest_at(what, &referrers_tag(digest)).await?;
        Ok(found.map(|list| listed(&list.bytes)).unwrap_or_default())
    }
}

/// `sha256-<hex>`
pub fn referrers_tag(digest: &Digest) -> String {
    digest.to_string().replace(':', "-")
}

/// Registries have several codes for what they miss.
fn is_blob_unknown(response: &Response) -> bool {
    let is_about_content =
        matches!(response.status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND);
    let codes = ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"];
    is_about_content && response.has_code(&codes)
}

/// The digests in a list of referrers. A body that is no such list has none: some registries
/// answer unknown paths with a page for people.
fn listed(body: &[u8]) -> Vec<Digest> {
    let list: ReferrerIndex = serde_json::from_slice(body).unwrap_or_default();
    list.manifests.iter().filter_map(|entry| entry["digest"].as_str()?.parse().ok()).collect()
}

/// `Link: </v2/etcd/tags/list?last=b>; rel="next"` (RFC 5988).
fn next_page(response: &Response) -> Option<Url> {
    let link = response.text(&LINK)?;
    let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    let url = response.url.join(target).ok().filter(|_| rest.contains("next"))?;
    (url.origin() == response.url.origin()).then_some(url)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    #[test]
    fn the_next_page_is_at_the_same_registry() {
        let check = |link: &str, expected: Option<&str>| {
            let response = Response {
                status: StatusCode::OK,
                headers: HeaderMap::from_iter([(LINK, link.parse().unwrap())]),
                body: Vec::new(),
                url: "https://a.example/v2/etcd/tags/list".parse().unwrap(),
            };
            assert_eq!(next_page(&response).as_ref().map(Url::as_str), expected, "{link}");
        };
        let next = "https://a.example/v2/etcd/tags/list?last=b";
        check("</v2/etcd/tags/list?last=b>; rel=\"next\"", Some(next));
        check(&format!("<{next}>; rel=next"), Some(next));
        // Another host would see what is asked for, and could list what it wants.
        check("<https://b.example/v2/etcd/tags/list?last=b>; rel=\"next\"", None);
        check("<http://a.example/v2/etcd/tags/list?last=b>; rel=\"next\"", None);
        check("</v2/etcd/tags/list?last=b>; rel=\"last\"", None);
        check("/v2/etcd/tags/list?last=b", None);
    }
}
