use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use reqwest::header::HeaderValue;
use serde::Deserialize;

/// What `docker login` wrote into config.json. Credential helpers are not asked: they are
/// programs, and pulling a public base needs none.
///
/// `Debug` shows the registries, never a secret.
#[derive(Clone, Default)]
pub struct Credentials {
    basic: BTreeMap<String, HeaderValue>,
}

/// Why config.json is of no use. Never says what stands in it.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` is not a Docker config.json: see line {line}, column {column}", path.display())]
    Parse { path: PathBuf, line: usize, column: usize },
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize)]
struct Auth {
    /// Base64 of `user:password`, which is what `Basic` wants.
    #[serde(default)]
    auth: String,
}

impl Credentials {
    /// From `$DOCKER_CONFIG` or `~/.docker`.
    pub fn from_environment() -> Result<Self, CredentialsError> {
        let home = || std::env::home_dir().map(|home| home.join(".docker"));
        match std::env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(home) {
            Some(folder) => Self::load(&folder),
            None => Ok(Self::default()),
        }
    }

    /// From the folder that holds config.json. No file: no credentials.
    pub fn load(folder: &Path) -> Result<Self, CredentialsError> {
        let path = folder.join("config.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(CredentialsError::Read { path, source }),
        };
        // The message of the parser may quote a secret, so only the place is passed on.
        let config: DockerConfig = serde_json::from_slice(&bytes).map_err(|error| {
            CredentialsError::Parse { path, line: error.line(), column: error.column() }
        })?;
        let entries = config
            .auths
            .into_iter()
            .filter_map(|(key, auth)| Some((registry(&key).to_owned(), header(&auth.auth)?)));
        Ok(Self { basic: entries.collect() })
    }

    pub(super) fn basic(&self, registry: &str) -> Option<&HeaderValue> {
        self.basic.get(registry)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.basic.keys()).finish()
    }
}

/// `https://index.docker.io/v1/` is how Docker writes docker.io; others are hosts, or URLs.
fn registry(key: &str) -> &str {
    let key = key.trim_start_matches("https://").trim_start_matches("http://");
    match key.split_once('/').map_or(key, |(host, _)| host) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

fn header(auth: &str) -> Option<HeaderValue> {
    // An empty one says that a credential helper has it.
    let auth = Some(auth.trim()).filter(|auth| !auth.is_empty())?;
    let mut header = HeaderValue::from_str(&format!("Basic {auth}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_registries() {
        assert_eq!(registry("https://index.docker.io/v1/"), "docker.io");
        assert_eq!(registry("registry:5000"), "registry:5000");
        assert_eq!(registry("https://registry.example/v2/"), "registry.example");
    }

    #[test]
    fn secrets_are_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        assert!(Credentials::load(folder.path()).unwrap().basic.is_empty());

        let config = r#"{"auths": {"a.example": {"auth": "c2VjcmV0"}, "b.example": {}}}"#;
        fs::write(&path, config).unwrap();
        let credentials = Credentials::load(folder.path()).unwrap();
        assert_eq!(format!("{credentials:?}"), r#"{"a.example"}"#);
        assert_eq!(format!("{:?}", credentials.basic("a.example").unwrap()), "Sensitive");

        fs::write(&path, r#"{"auths": "c2VjcmV0"}"#).unwrap();
        let error = Credentials::load(folder.path()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("c2VjcmV0"), "{error:?}");
    }
}
