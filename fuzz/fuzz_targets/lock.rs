//! etcdimg.lock: what was read is written so that it reads the same.
#![no_main]

use etcdimg::catalog::parse_lock;

libfuzzer_sys::fuzz_target!(|text: &str| {
    match parse_lock(text) {
        Ok(lock) => {
            let written = lock.to_yaml();
            let again = parse_lock(&written).expect("its own text is a lock");
            assert_eq!(again.to_yaml(), written);
        }
        Err(fault) => drop(fault.to_string()),
    }
});
