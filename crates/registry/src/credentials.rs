//! The logins of the user: from the command line, the files of Docker and podman, and credential
//! helpers.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::Deserialize;

use super::credentials_error::CredentialsError;
use super::{Login, Secret, helper};
use oci::Repository;

/// The logins that `docker login`, `podman login` and the command line left.
///
/// `Debug` shows the registries, never a secret. `default()` has no logins.
pub struct Credentials {
    /// From the command line: for these registries before everything else.
    given: BTreeMap<String, Login>,
    /// Best first; read from the environment's files when they are first needed.
    files: OnceLock<Vec<AuthFile>>,
    /// Answers of helpers: each is asked once for each registry.
    asked: Mutex<BTreeMap<(String, String), Option<Login>>>,
}

/// config.json of Docker; auth.json of podman has the same form.
#[derive(Clone, Default, Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: String,
}

#[derive(Clone, Deserialize)]
struct Auth {
    /// Base64 of `user:password`, which is what `Basic` wants.
    #[serde(default)]
    auth: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

impl Credentials {
    /// Those of the environment: from `REGISTRY_AUTH_FILE` alone if it is set; else from podman's
    /// auth.json, then from config.json in `$DOCKER_CONFIG` or `~/.docker`.
    pub fn from_environment() -> Result<Self, CredentialsError> {
        let credentials = Self::when_needed();
        credentials.files()?;
        Ok(credentials)
    }

    /// The same, but the files are read when a registry asks for a login.
    pub fn when_needed() -> Self {
        Self { files: OnceLock::new(), ..Self::default() }
    }

    fn files(&self) -> Result<&[AuthFile], CredentialsError> {
        if let Some(files) = self.files.get() {
            return Ok(files);
        }
        let files = Self::read_files()?;
        Ok(self.files.get_or_init(|| files))
    }

    fn read_files() -> Result<Vec<AuthFile>, CredentialsError> {
        let variable = |name: &str| {
            std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        Ok(if let Some(path) = variable("REGISTRY_AUTH_FILE") {
            // It was named, so it must exist.
            vec![read(&path)?.ok_or_else(|| missing(path))?]
        } else {
            let home = std::env::home_dir();
            let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
            let podman =
                variable("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json"));
            let config = variable("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
            let config = config.map(|folder| folder.join("containers/auth.json"));
            let docker = variable("DOCKER_CONFIG").or_else(|| below_home(".docker"));
            let docker = docker.map(|folder| folder.join("config.json"));
            let places = [podman, config, docker];
            let files = places.into_iter().flatten().map(|path| read(&path));
            files.filter_map(Result::transpose).collect::<Result<_, _>>()?
        })
    }

    /// From the folder that contains config.json. Without that file there are no logins.
    pub fn load(folder: &Path) -> Result<Self, CredentialsError> {
        let files: Vec<_> = read(&folder.join("config.json"))?.into_iter().collect();
        Ok(Self { files: OnceLock::from(files), ..Self::default() })
    }

    /// Adds the login that was named for this registry; it comes before all others.
    pub fn give(&mut self, registry: &str, login: Login) {
        self.given.insert(registry.to_owned(), login);
    }

    /// The login for a repository; `None` if there is none. May run a credential helper.
    pub fn find(&self, repository: &Repository) -> Result<Option<Login>, CredentialsError> {
        if let Some(login) = self.given.get(repository.registry()) {
            return Ok(Some(login.clone()));
        }
        for file in self.files()? {
            if let Some(login) = self.find_in(file, repository)? {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }

    fn find_in(
        &self,
        file: &AuthFile,
        repository: &Repository,
    ) -> Result<Option<Login>, CredentialsError> {
        let registry = repository.registry();
        let own = file.helpers.iter().find(|(key, _)| registry_of(key) == registry);
        let helper =
            own.map(|(_, name)| name).or_else(|| Some(&file.store).filter(|it| !it.is_empty()));
        if let Some(login) = helper.map(|name| self.ask(name, registry)).transpose()?.flatten() {
            return Ok(Some(login));
        }
        let name = repository.to_string();
        let is_for = |key: &str| {
            name.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        // The longest key wins: podman keeps logins for parts of a registry too.
        let auths = file.auths.iter().map(|(key, auth)| (registry_of(key), auth));
        let auth = auths.filter(|(key, _)| is_for(key)).max_by_key(|(key, _)| key.len());
        Ok(auth.and_then(|(_, auth)| auth.login()))
    }

    fn ask(&self, name: &str, registry: &str) -> Result<Option<Login>, CredentialsError> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (name.to_owned(), registry.to_owned());
        if let Some(known) = asked.get(&key) {
            return Ok(known.clone());
        }
        let login = helper::ask(name, registry)?;
        asked.insert(key, login.clone());
        Ok(login)
    }
}

impl Auth {
    fn login(&self) -> Option<Login> {
        if self.identity_token.is_empty() {
            return Login::basic(&self.auth);
        }
        Some(Login::IdentityToken(Secret::new(&*self.identity_token)))
    }
}

impl Default for Credentials {
    fn default() -> Self {
        let (given, files) = (BTreeMap::new(), OnceLock::from(Vec::new()));
        Self { given, files, asked: Mutex::default() }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.files.get().into_iter().flatten();
        let files = files.flat_map(|file| file.auths.keys().chain(file.helpers.keys()));
        f.debug_set().entries(self.given.keys().chain(files)).finish()
    }
}

fn read(path: &Path) -> Result<Option<AuthFile>, CredentialsError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CredentialsError::Read { path: path.to_owned(), source }),
    };
    // The parser's message may quote a secret, so only the line and column are shown.
    serde_json::from_slice(&bytes).map(Some).map_err(|error| CredentialsError::Parse {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
    })
}

fn missing(path: PathBuf) -> CredentialsError {
    CredentialsError::Read { path, source: io::ErrorKind::NotFound.into() }
}

/// The registry, or the part of it, that a key of config.json is for. Docker writes
/// `https://index.docker.io/v1/` for docker.io; other keys are hosts, URLs of the API, or a host
/// and the start of a path.
fn registry_of(key: &str) -> &str {
    let key = key.trim_start_matches("https://").trim_start_matches("http://");
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v2").or_else(|| key.strip_suffix("/v1")).unwrap_or(key);
    match key {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_registries() {
        assert_eq!(registry_of("https://index.docker.io/v1/"), "docker.io");
        assert_eq!(registry_of("registry:5000"), "registry:5000");
        assert_eq!(registry_of("https://registry.example/v2/"), "registry.example");
        assert_eq!(registry_of("quay.io/team"), "quay.io/team");
    }

    #[test]
    fn the_nearest_login_counts() {
        let config = r#"{"auths": {
            "a.example": {"auth": "YQ=="}, "a.example/team": {"auth": "dGVhbQ=="},
            "b.example": {"identitytoken": "t", "auth": "Yg=="}, "c.example": {}}}"#;
        check(config, "a.example/other/etcd", "Basic YQ==");
        check(config, "a.example/team/etcd", "Basic dGVhbQ==");
        check(config, "a.example/teams/etcd", "Basic YQ==");
        check(config, "b.example/etcd", "IdentityToken(Secret)");
        check(config, "c.example/etcd", "nobody");
        check(config, "d.example/etcd", "nobody");
    }

    #[track_caller]
    fn check(config: &str, repository: &str, expected: &str) {
        let file = serde_json::from_str(config).unwrap();
        let credentials =
            Credentials { files: OnceLock::from(vec![file]), ..Credentials::default() };
        let actual = match credentials.find(&repository.parse().unwrap()).unwrap() {
            Some(Login::Basic(header)) => header.to_str().unwrap().to_owned(),
            Some(login) => format!("{login:?}"),
            None => "nobody".to_owned(),
        };
        assert_eq!(actual, expected);
    }

    #[test]
    fn secrets_are_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        assert!(Credentials::load(folder.path()).unwrap().files().unwrap().is_empty());

        let config = r#"{"auths": {"a.example": {"auth": "c2VjcmV0"}, "b.example": {}}}"#;
        fs::write(&path, config).unwrap();
        let mut credentials = Credentials::load(folder.path()).unwrap();
        assert_eq!(format!("{credentials:?}"), r#"{"a.example", "b.example"}"#);
        let login = Login::password("me", &Secret::new("c2VjcmV0")).unwrap();
        credentials.give("c.example", login);
        assert!(!format!("{credentials:?}").contains("c2VjcmV0"));

        fs::write(&path, r#"{"auths": "c2VjcmV0"}"#).unwrap();
        let error = Credentials::load(folder.path()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("c2VjcmV0"), "{error:?}");
    }

    #[test]
    fn a_helper_is_a_name_and_never_a_path() {
        let file = serde_json::from_str(r#"{"credsStore": "../evil"}"#).unwrap();
        let credentials =
            Credentials { files: OnceLock::from(vec![file]), ..Credentials::default() };
        assert!(credentials.find(&"a.example/etcd".parse().unwrap()).is_err());
    }
}
