//! The place that a file is fetched from.

use std::fmt;
use std::path::PathBuf;

use reqwest::Url;
use reqwest::header::HeaderMap;

/// One place that a file may come from.
///
/// An unusable URL stays a source: it fails like any mirror, so that the next one is tried and the
/// error lists it.
#[derive(Clone, Debug)]
pub enum DownloadSource {
    /// The headers may contain an `Authorization`; it is marked sensitive and never shown.
    Http {
        url: Url,
        headers: HeaderMap,
    },
    File(PathBuf),
    Unknown(String),
}

impl DownloadSource {
    pub fn parse(text: &str) -> Self {
        let unknown = || Self::Unknown(without_credentials(text));
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => {
                Self::Http { url, headers: HeaderMap::new() }
            }
            Ok(url) if url.scheme() == "file" => {
                url.to_file_path().map_or_else(|()| unknown(), Self::File)
            }
            _ => unknown(),
        }
    }
}

/// As it may be shown: without user, password and query, which may be secret.
impl fmt::Display for DownloadSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { url, .. } => {
                let mut url = url.clone();
                // These fail only for URLs that cannot have either.
                let _ = url.set_username("");
                let _ = url.set_password(None);
                url.set_query(None);
                f.write_str(url.as_str())
            }
            Self::File(path) => write!(f, "file://{}", path.display()),
            Self::Unknown(text) => f.write_str(text),
        }
    }
}

/// A text that is no URL may still contain a password.
fn without_credentials(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, rest)) => format!("***@{rest}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_shown_without_secrets() {
        check("https://host/etcd.tar.gz", "https://host/etcd.tar.gz");
        check("https://user:secret@host/a?sig=secret", "https://host/a");
        check("file:///srv/etcd.tar.gz", "file:///srv/etcd.tar.gz");
        check("ftp://user:secret@host/a", "***@host/a");
        check("etcd.tar.gz", "etcd.tar.gz");
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(DownloadSource::parse(text).to_string(), expected);
    }
}
