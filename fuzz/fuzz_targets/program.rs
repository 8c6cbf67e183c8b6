//! Programs: ELF and PE, Go's build info, and the version of `migrate`.
#![no_main]

use etcdimg::program::{Expected, Identity, check};
use oci::Platform;

libfuzzer_sys::fuzz_target!(|program: &[u8]| {
    for platform in ["linux/amd64", "linux/arm/v7", "linux/s390x", "windows/amd64:ltsc2022"] {
        let platform: Platform = platform.parse().expect("a platform that is known");
        let etcd = Identity::Etcd {
            program: "etcd",
            version: "3.6.14",
            go: "1.25.12",
            commit: "fc04cf702b0a46c2fd85547a2be05705b100a496",
        };
        for content in [etcd, Identity::Migrate { version: "0.1.0" }] {
            let _ = check(program, &Expected { name: "etcd", platform: &platform, content });
        }
    }
});
