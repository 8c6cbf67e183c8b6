//! `WWW-Authenticate` as registries send it: what was read is written so that it reads the same.
#![no_main]

use registry::challenge::Challenge;

libfuzzer_sys::fuzz_target!(|value: &str| {
    // reqwest hands on only what a header may hold: visible characters and blanks.
    if !value.chars().all(|c| matches!(c, ' '..='~' | '\t')) {
        return;
    }
    if let Some(challenge) = Challenge::parse(value) {
        let _ = challenge.parameter("realm");
        assert_eq!(Challenge::parse(&challenge.to_string()), Some(challenge));
    }
});
