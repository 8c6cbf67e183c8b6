//! References to images: registry, repository, tag and digest, as people type them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use url::Url;

use crate::digest::{Digest, DigestError};

/// `registry.k8s.io/etcd`: a registry, and a path in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repository {
    registry: String,
    path: String,
    root: Url,
}

/// A reference that must have a digest: `docker.io/library/busybox:1.37@sha256:...`.
/// The digest decides; the tag is for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedReference {
    pub repository: Repository,
    pub tag: Option<String>,
    pub digest: Digest,
}

/// A repository and, where they were given, a tag and a digest in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub repository: Repository,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("`{0}` is not pinned: write `@sha256:` and 64 hex digits after it")]
    NotPinned(String),
    #[error("`{0}` names no registry: write for example `docker.io/library/{0}`")]
    NoRegistry(String),
    #[error("`{0}` is not the host, or host:port, of a registry")]
    Registry(String),
    #[error(
        "`{0}` is not the path of a repository: lower-case letters, digits, `.`, `_`, `-`, `/`"
    )]
    Path(String),
    #[error("`{0}` is not a tag")]
    Tag(String),
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl Repository {
    /// As people write it: `docker.io`, not the host that answers for it.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// The same registry, without TLS. Only for what somebody named as insecure.
    #[must_use]
    pub fn in_plain_http(&self) -> Self {
        let host = self.root.as_str().trim_start_matches("https://");
        let root = Url::parse(&format!("http://{host}"));
        Self { root: root.unwrap_or_else(|_| self.root.clone()), ..self.clone() }
    }

    /// Another repository of the same registry.
    #[must_use]
    pub fn neighbour(&self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self.clone() }
    }

    /// Where the registry answers: its scheme, host and port.
    pub fn root(&self) -> &Url {
        &self.root
    }

    /// `kind` is `manifests` or `blobs`.
    pub fn url(&self, kind: &str, digest: &Digest) -> Url {
        self.at(&format!("{kind}/{digest}"))
    }

    pub fn tag_url(&self, tag: &str) -> Url {
        self.at(&format!("manifests/{tag}"))
    }

    /// Something of this repository.
    pub fn at(&self, path: &str) -> Url {
        let mut url = self.root.clone();
        url.set_path(&format!("/v2/{}/{path}", self.path));
        url
    }
}

/// Whether a URL names this machine.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Where a registry answers. TLS everywhere but on this machine, as container engines do it.
fn root(registry: &str, is_tls: bool) -> Option<Url> {
    let host = match registry {
        "docker.io" => "registry-1.docker.io",
        other => other,
    };
    // More would be a user, a query or a fragment.
    if !host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c)) {
        return None;
    }
    let url = Url::parse(&format!("https://{host}/")).ok()?;
    if is_tls {
        return Some(url);
    }
    // Parsed again, not changed: `http` would keep a port 443 that was meant.
    if is_loopback(&url) { Url::parse(&format!("http://{host}/")).ok() } else { Some(url) }
}

impl FromStr for Repository {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        // Registries on this machine speak TLS only if somebody says so.
        let (is_tls, text) = match text.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (registry, path) = text
            .split_once('/')
            .filter(|(host, _)| host.contains(['.', ':']) || *host == "localhost")
            .ok_or_else(|| ReferenceError::NoRegistry(text.to_owned()))?;
        // Docker's own rule: what has no owner belongs to `library`.
        let is_official = registry == "docker.io" && !path.contains('/');
        let path = if is_official { format!("library/{path}") } else { path.to_owned() };
        if path.len() > 255 || !path.split('/').all(is_component) {
            return Err(ReferenceError::Path(path));
        }
        let root =
            root(registry, is_tls).ok_or_else(|| ReferenceError::Registry(registry.to_owned()))?;
        Ok(Self { registry: registry.to_owned(), path, root })
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (name, digest) = match text.rsplit_once('@') {
            Some((name, digest)) => (name, Some(digest.parse()?)),
            None => (text, None),
        };
        // The colon of a port, or of a scheme, has a slash behind it.
        let (repository, tag) = match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (name, None),
        };
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag(tag.to_owned()));
        }
        let tag = tag.map(ToOwned::to_owned);
        Ok(Self { repository: repository.parse()?, tag, digest })
    }
}

impl FromStr for PinnedReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if !text.contains('@') {
            return Err(ReferenceError::NotPinned(text.to_owned()));
        }
        let Reference { repository, tag, digest } = text.parse()?;
        let digest = digest.ok_or_else(|| ReferenceError::NotPinned(text.to_owned()))?;
        Ok(Self { repository, tag, digest })
    }
}

/// distribution-spec: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separator = |text: &str| matches!(text, "." | "_" | "__") || text.chars().all(|c| c == '-');
    text.starts_with(alphanumeric)
        && text.ends_with(alphanumeric)
        && text.split(alphanumeric).all(separator)
}

/// distribution-spec: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
pub fn is_tag(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    text.len() <= 128
        && !text.is_empty()
        && !text.starts_with(['.', '-'])
        && text.chars().all(inner)
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

impl fmt::Display for PinnedReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        write!(f, "@{}", self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_become_urls() {
        check("docker.io/library/busybox", "https://registry-1.docker.io/v2/library/busybox");
        check("docker.io/busybox:1.37", "https://registry-1.docker.io/v2/library/busybox");
        check("registry:5000/repo/name", "https://registry:5000/v2/repo/name");
        check("registry.example/a/b__c/d--e:t", "https://registry.example/v2/a/b__c/d--e");
        check("localhost:5000/etcd", "http://localhost:5000/v2/etcd");
        check("127.0.0.1:5000/etcd", "http://127.0.0.1:5000/v2/etcd");
        check("[::1]:5000/etcd", "http://[::1]:5000/v2/etcd");
        check("https://127.0.0.1:5000/etcd", "https://127.0.0.1:5000/v2/etcd");
        check("https://registry.example/etcd:1", "https://registry.example/v2/etcd");
    }

    #[test]
    fn bad_references_say_why() {
        check(
            "busybox",
            "`busybox` names no registry: write for example `docker.io/library/busybox`",
        );
        for path in ["a//b", "A", "a..b", "a___b", "-a", "a?b", ".."] {
            let reason =
                "is not the path of a repository: lower-case letters, digits, `.`, `_`, `-`, `/`";
            check(&format!("host.example/{path}"), &format!("`{path}` {reason}"));
        }
        check(
            "us er@host.example/a",
            "`us er@host.example` is not the host, or host:port, of a registry",
        );
        check("host.example/a:-t", "`-t` is not a tag");
        let error =
            "docker.io/library/busybox:1".parse::<PinnedReference>().unwrap_err().to_string();
        assert!(error.starts_with("`docker.io/library/busybox:1` is not pinned"));
    }

    #[test]
    fn plain_http_keeps_host_and_port() {
        let repository: Repository = "registry:5000/a/etcd".parse().unwrap();
        assert_eq!(
            repository.in_plain_http().tag_url("1").as_str(),
            "http://registry:5000/v2/a/etcd/manifests/1"
        );
        assert_eq!(repository.in_plain_http().to_string(), "registry:5000/a/etcd");
    }

    #[test]
    fn what_is_named_may_lack_tag_and_digest() {
        for text in ["host.example/a", "host.example:5000/a:t", "localhost/a"] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
        }
        let text = format!("host.example/a@{}", Digest::of(b""));
        assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
        assert!("host.example/a:".parse::<Reference>().is_err());
    }

    #[test]
    fn references_round_trip() {
        let text = format!("registry:5000/repo/name:tag@{}", Digest::of(b""));
        assert_eq!(text.parse::<PinnedReference>().unwrap().to_string(), text);
    }

    #[track_caller]
    fn check(name: &str, expected: &str) {
        let digest = Digest::of(b"");
        let actual = match format!("{name}@{digest}").parse::<PinnedReference>() {
            Ok(reference) => reference.repository.url("blobs", &digest).to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(actual.replace(&format!("/blobs/{digest}"), ""), expected);
    }
}
