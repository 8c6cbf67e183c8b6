//! `WWW-Authenticate`: how a registry asks for a login (RFC 9110, 11.6.1). Pure. Public, so that it
//! can be fuzzed.

use std::collections::BTreeMap;
use std::fmt;

use http_auth::ChallengeParser;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// One challenge, parsed. Names of parameters are in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub(super) scheme: String,
    parameters: BTreeMap<String, String>,
}

impl Challenge {
    /// The best challenge of a response, if there is one that can be read.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter();
        best(values.filter_map(|value| value.to_str().ok()).flat_map(parse_all))
    }

    /// The best of the challenges in one header value.
    pub fn parse(value: &str) -> Option<Self> {
        best(parse_all(value).into_iter())
    }

    pub(super) fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// The part that is the same for every repository of the registry.
    pub(super) fn without_scope(&self) -> String {
        let mut challenge = self.clone();
        challenge.parameters.remove("scope");
        challenge.to_string()
    }
}

fn parse_all(value: &str) -> Vec<Challenge> {
    // The challenges before a syntax error can be used.
    let parsed = ChallengeParser::new(value).map_while(Result::ok);
    let challenge = |it: http_auth::ChallengeRef<'_>| Challenge {
        scheme: it.scheme.to_owned(),
        parameters: it
            .params
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_unescaped()))
            .collect(),
    };
    parsed.map(challenge).collect()
}

/// Bearer before Basic, because a token can be limited to what will be done.
fn best(challenges: impl Iterator<Item = Challenge>) -> Option<Challenge> {
    let rank = |challenge: &Challenge| match () {
        () if challenge.is("bearer") => 0,
        () if challenge.is("basic") => 1,
        () => 2,
    };
    challenges.min_by_key(rank)
}

/// As a registry would write it.
impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.scheme)?;
        let mut separator = ' ';
        for (name, value) in &self.parameters {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            write!(f, "{separator}{name}=\"{value}\"")?;
            separator = ',';
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_remembered_without_their_scope() {
        for (challenge, expected) in [
            ("Basic realm=\"a\"", "Basic realm=\"a\""),
            (
                "Bearer realm=\"a\",service=\"b\",scope=\"c:d,e\"",
                "Bearer realm=\"a\",service=\"b\"",
            ),
            (
                "Bearer realm=\"a\\\"b\",scope=\"c\",error=\"x\"",
                "Bearer error=\"x\",realm=\"a\\\"b\"",
            ),
            ("Negotiate", "Negotiate"),
        ] {
            let remembered = Challenge::parse(challenge).unwrap().without_scope();
            assert_eq!(remembered, expected);
            assert_eq!(Challenge::parse(&remembered).unwrap().to_string(), expected);
        }
        assert_eq!(Challenge::parse(""), None);
        assert_eq!(Challenge::parse("\"?"), None);
    }

    #[test]
    fn a_bearer_token_is_preferred_wherever_it_is_offered() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
            }
            Challenge::of(&headers).map(|challenge| challenge.to_string())
        };
        let (basic, bearer) = ("Basic realm=\"a\"", "bearer realm=\"b\"");
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[basic]).as_deref(), Some(basic));
        assert_eq!(of(&[basic, bearer]).as_deref(), Some(bearer));
        assert_eq!(of(&[&format!("Negotiate, {basic}, {bearer}")]).as_deref(), Some(bearer));
    }
}
