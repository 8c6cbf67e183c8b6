//! Reads YAML. No other file knows the YAML library.

use serde::de::DeserializeOwned;
pub use serde_yaml::Spanned;

use super::fault::{At, Fault};

/// Reads one document. `keys` lists the allowed keys, for error messages.
pub fn parse<T: DeserializeOwned>(at: At<'_>, text: &str, keys: &str) -> Result<T, Fault> {
    serde_yaml::from_str(text).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        let problem = error.without_snippet().to_string();
        // The library repeats the line, which is already in front of our message.
        let problem = problem.split(" at line").next().unwrap_or_default().trim();
        let (field, problem, instead) = explain(problem, key_on(text, line), keys);
        at.fault(line, field, problem, instead)
    })
}

/// Translates a message of the library: the field, the problem, and what to write instead.
fn explain(problem: &str, key: &str, keys: &str) -> (String, String, String) {
    let all = || format!("the keys are {keys}");
    let name = |text: &str| text.split('`').next().unwrap_or_default().to_owned();
    if let Some(rest) = problem.strip_prefix("unknown field `") {
        return (name(rest), "unknown key".to_owned(), all());
    }
    if let Some(rest) = problem.strip_prefix("missing field `") {
        return (name(rest), "missing key".to_owned(), all());
    }
    if let Some(rest) = problem.strip_prefix("duplicate mapping key: ") {
        let key = rest.split(',').next().unwrap_or_default();
        return (key.to_owned(), "duplicate key".to_owned(), "each key once".to_owned());
    }
    if let Some(rest) = problem.strip_prefix("unknown variant `")
        && let Some((_, known)) = rest.split_once("expected one of ")
    {
        return (
            key.to_owned(),
            format!("`{}` is not known", name(rest)),
            format!("one of: {known}"),
        );
    }
    if problem == "invalid boolean" {
        let instead = "`true` or `false`".to_owned();
        return (key.to_owned(), "neither `true` nor `false`".to_owned(), instead);
    }
    (key.to_owned(), problem.to_owned(), format!("what YAML can read; {}", all()))
}

/// The key at the beginning of a line, or an empty text.
fn key_on(text: &str, line: u64) -> &str {
    let line = usize::try_from(line).ok().and_then(|line| text.lines().nth(line.checked_sub(1)?));
    let key = line.and_then(|line| line.split_once(':')).map_or("", |(key, _)| key);
    let key = key.trim_start_matches([' ', '\t', '-']);
    let is_name = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte));
    if is_name { key } else { "" }
}

/// The line of a value.
pub fn line<T>(value: &Spanned<T>) -> u64 {
    value.referenced.line()
}
