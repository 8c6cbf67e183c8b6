//! How a command reaches registries: what was typed, translated.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use crate::cli::{AccessArgs, TrustArgs};
use crate::failure::{Failure, Kind};
use crate::fetch::FetchOptions;
use crate::fetch::http::TlsTrust;
use crate::registry::{CHUNK_BYTES, Credentials, Login, Registries, RegistryOptions, Secret};
use crate::ui::Ui;

/// For a command that works with registries. A user that was named on the command line belongs to
/// `registries`.
pub(super) fn registries(
    cache_dir: &Path,
    ui: &Ui,
    arguments: &AccessArgs,
    registries: &[&str],
) -> Result<Registries, Failure> {
    let mut credentials = Credentials::from_environment()?;
    if let Some(user) = &arguments.username {
        let why = "the user name contains a character that HTTP Basic cannot carry";
        let login = Login::password(user, &password()?);
        let login = login.ok_or_else(|| Failure::new(Kind::Other, why))?;
        for registry in registries {
            credentials.give(registry, login.clone());
        }
    }
    Ok(with_credentials(cache_dir, ui, credentials, &fetch_options(&arguments.trust)?))
}

/// For a command that may need a base image. Files with logins are read when a registry asks for
/// one: if everything is in the cache, they do not matter.
pub(super) fn base_registries(cache_dir: &Path, ui: &Ui, options: &FetchOptions) -> Registries {
    with_credentials(cache_dir, ui, Credentials::when_needed(), options)
}

fn with_credentials(
    cache_dir: &Path,
    ui: &Ui,
    credentials: Credentials,
    options: &FetchOptions,
) -> Registries {
    Registries::new(RegistryOptions {
        fetch: options.clone(),
        credentials: Arc::new(credentials),
        cache_dir: cache_dir.to_owned(),
        chunk_bytes: CHUNK_BYTES,
        progress: Arc::new(ui.clone()),
    })
}

/// The default timeouts and attempts, with the authorities and exceptions that were named.
pub(super) fn fetch_options(arguments: &TrustArgs) -> Result<FetchOptions, Failure> {
    let trust = TlsTrust {
        authorities: authorities(arguments)?,
        unverified: arguments.insecure_registry.iter().cloned().collect(),
    };
    Ok(FetchOptions { trust, ..FetchOptions::default() })
}

fn authorities(arguments: &TrustArgs) -> Result<Vec<u8>, Failure> {
    let Some(path) = &arguments.ca_file else { return Ok(Vec::new()) };
    let hint = || format!("cannot use `{}`", path.display());
    let pem = fs::read(path).map_err(|error| Failure::new(Kind::Io, error).hint(hint()))?;
    TlsTrust::check(&pem).map_err(|error| Failure::new(Kind::Other, error).hint(hint()))?;
    Ok(pem)
}

/// From standard input, without the end of its line.
fn password() -> Result<Secret, Failure> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(|error| Failure::new(Kind::Io, error))?;
    Ok(Secret::new(text.trim_end_matches(['\n', '\r'])))
}
