//! Credential helpers: programs that keep logins elsewhere (docker/docker-credential-helpers).

use serde::Deserialize;

use super::{CredentialsError, Login, Secret};
use crate::process::Invocation;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// What `docker-credential-NAME get` knows of a registry; nothing when it knows none.
pub(super) fn ask(name: &str, registry: &str) -> Result<Option<Login>, CredentialsError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(is_plain) {
        return Err(CredentialsError::Helper { name: name.to_owned(), why: "no such name" });
    }
    let program = format!("docker-credential-{name}");
    let invocation = Invocation {
        program: program.clone().into(),
        arguments: vec!["get".into()],
        folder: ".".into(),
        // It keeps its own secrets by means that only its environment knows.
        passed_on: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect(),
        environment: [].into(),
    };
    // It fails when it knows none, and says so in words that differ from helper to helper.
    let Ok(text) = invocation.ask(server(registry)) else { return Ok(None) };
    let failed =
        CredentialsError::Helper { name: program, why: "its answer is not what it should be" };
    let Ok(answer) = serde_json::from_str::<Answer>(&text) else { return Err(failed) };
    match &*answer.username {
        "" => Ok(None),
        "<token>" => Ok(Some(Login::IdentityToken(Secret::new(answer.secret)))),
        user => Login::password(user, &Secret::new(answer.secret)).map(Some).ok_or(failed),
    }
}

/// How Docker has written its own registry since before there were others.
fn server(registry: &str) -> &str {
    match registry {
        "docker.io" => "https://index.docker.io/v1/",
        other => other,
    }
}
