//! The only place that knows which YAML library reads our files.

use serde::de::DeserializeOwned;
pub use serde_yaml::Spanned;

use super::fault::{At, Fault};

/// Reads one document; `keys` lists what the file may hold, for the error.
pub fn parse<T: DeserializeOwned>(at: At<'_>, text: &str, keys: &str) -> Result<T, Fault> {
    serde_yaml::from_str(text).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        let problem = error.without_snippet().to_string();
        // The library names the place again; ours is already in front.
        let problem = problem.split(" at line").next().unwrap_or_default().trim().to_owned();
        at.fault(line, "", problem, format!("the keys are {keys}"))
    })
}

/// The line a value stands on.
pub fn line<T>(value: &Spanned<T>) -> u64 {
    value.referenced.line()
}
