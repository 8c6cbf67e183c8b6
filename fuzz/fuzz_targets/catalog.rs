//! versions.yaml and one target, with a line `---` between them.
#![no_main]

use std::path::PathBuf;

use etcdimg::catalog::{Catalog, Texts};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (versions, target) = text.split_once("\n---\n").unwrap_or((text, ""));
    let targets = vec![("linux-amd64.yaml".to_owned(), target.to_owned())];
    let texts = Texts { versions: versions.to_owned(), targets, ..Texts::default() };
    match Catalog::parse(PathBuf::new(), &texts) {
        Ok(catalog) => drop(catalog.digest()),
        Err(fault) => drop(fault.to_string()),
    }
});
