//! `version.txt`: what was read is written as it was read.
#![no_main]

use etcd_migrate::inspect::version_pair::VersionPair;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(pair) = text.parse::<VersionPair>() {
        let again = pair.to_string().parse::<VersionPair>();
        assert_eq!(again.expect("its own text is a pair").to_string(), pair.to_string());
    }
});
