//! One release of Rust: rust-toolchain.toml is what people and CI compile with, `rust:` of
//! versions.yaml is the same release as a pinned input of the image (it decides the bytes of
//! `migrate`), and `rust-version` of Cargo.toml is the language that the sources may use.

use std::fs;
use std::path::Path;

#[test]
fn every_file_names_the_same_rust() {
    let toolchain = value("rust-toolchain.toml", "channel = ");
    assert_eq!(value("versions.yaml", "rust: "), toolchain, "versions.yaml, rust-toolchain.toml");
    let (language, _patch) = toolchain.rsplit_once('.').expect("`channel` is MAJOR.MINOR.PATCH");
    assert_eq!(value("Cargo.toml", "rust-version = "), language, "Cargo.toml, rust-toolchain.toml");
}

#[test]
fn no_workflow_names_a_rust_of_its_own() {
    let toolchain = value("rust-toolchain.toml", "channel = ");
    let (language, _patch) = toolchain.rsplit_once('.').expect("`channel` is MAJOR.MINOR.PATCH");
    let mut n_files = 0;
    for folder in [".github/workflows", ".github/actions/rust"] {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            for names_one in
                [language, "rustup default", "rustup override", "toolchain:", "cargo +"]
            {
                assert!(!text.contains(names_one), "{} has `{names_one}`", path.display());
            }
            // Without a name rustup installs what rust-toolchain.toml names.
            let installed = text.split("rustup toolchain install").skip(1);
            for rest in installed {
                assert!(rest.starts_with('\n'), "{} installs another Rust", path.display());
            }
            n_files += 1;
        }
    }
    assert!(n_files >= 3, "only {n_files} files of CI were read");
}

/// What follows `key` in the only line of a file that begins with it, without quotes.
fn value(file: &str, key: &str) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let values: Vec<_> = text.lines().filter_map(|line| line.strip_prefix(key)).collect();
    let [value] = values.as_slice() else {
        panic!("{file}: `{key}` is there {} times", values.len())
    };
    value.trim_matches('"').to_owned()
}
