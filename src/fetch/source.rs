use std::fmt;
use std::path::PathBuf;

use reqwest::Url;
use reqwest::header::HeaderMap;

/// One place a file may come from.
///
/// A URL that means nothing stays a source: it fails like any mirror, so that the next is tried
/// and the error lists it.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The headers may hold an `Authorization`; it is marked sensitive and never shown.
    Http {
        url: Url,
        headers: HeaderMap,
    },
    File(PathBuf),
    Unknown(String),
}

impl Source {
    pub(crate) fn parse(text: &str) -> Self {
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

/// As it may be shown: a user, a password and a signed query are nobody's business.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { url, .. } => {
                let mut url = url.clone();
                // These fail only where there can be neither.
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

/// What does not parse may still hold a password.
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
        assert_eq!(Source::parse(text).to_string(), expected);
    }
}
