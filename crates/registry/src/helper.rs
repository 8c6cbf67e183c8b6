//! Credential helpers: programs that keep logins elsewhere (docker/docker-credential-helpers).

use serde::Deserialize;

use super::credentials_error::CredentialsError;
use super::{Login, Secret};
use process::Invocation;

/// What a helper prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperOutput {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// The login that `docker-credential-NAME get` prints for a registry; `None` if it has none.
pub(super) fn ask(name: &str, registry: &str) -> Result<Option<Login>, CredentialsError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(is_plain) {
        return Err(CredentialsError::Helper {
            name: name.to_owned(),
            why: "its name may contain letters, digits, `-`, `_` and `.` only",
        });
    }
    let program = format!("docker-credential-{name}");
    let invocation = Invocation {
        program: program.clone().into(),
        arguments: vec!["get".into()],
        folder: ".".into(),
        // It finds its secrets with the help of the environment.
        passed_on: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect(),
        environment: [].into(),
    };
    // It fails if it has no login, with a message that differs from helper to helper.
    let Ok(text) = invocation.ask(server(registry)) else { return Ok(None) };
    let failed = CredentialsError::Helper {
        name: program,
        why: "its output is not the JSON that a helper prints",
    };
    let Ok(answer) = serde_json::from_str::<HelperOutput>(&text) else { return Err(failed) };
    match &*answer.username {
        "" => Ok(None),
        "<token>" => Ok(Some(Login::IdentityToken(Secret::new(answer.secret)))),
        user => Login::password(user, &Secret::new(answer.secret)).map(Some).ok_or(failed),
    }
}

/// The name of a registry for a helper: for docker.io, the one that Docker has always used.
fn server(registry: &str) -> &str {
    match registry {
        "docker.io" => "https://index.docker.io/v1/",
        other => other,
    }
}
