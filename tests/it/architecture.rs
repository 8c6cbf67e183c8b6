//! ARCHITECTURE.md in the form that cannot be ignored: who may use what.

use std::fs;
use std::path::Path;

/// A file or folder below `src`, and what must not be named in it.
const BOUNDARIES: &[(&str, &[&str])] = &[
    // Pure: no files, no network, no processes, no environment, no clock.
    ("plan", &["std::fs", "std::net", "std::process", "std::env", "std::time", "crate::store"]),
    ("image", &["std::fs", "std::net", "std::process", "std::env", "std::time", "crate::store"]),
    ("program", &["std::fs", "std::net", "std::process", "std::env", "std::time"]),
    ("archive", &["std::fs", "std::net", "std::process", "std::env", "crate::store"]),
    ("catalog/versions.rs", &["std::fs", "std::env", "std::time"]),
    ("catalog/target.rs", &["std::fs", "std::env", "std::time"]),
    ("catalog/lock.rs", &["std::fs", "std::env", "std::time"]),
    // Bytes of images: no clock and no environment.
    ("layer", &["std::env", "std::time", "std::net", "std::process"]),
    ("manifests", &["std::fs", "std::net", "std::process", "std::env", "std::time"]),
    // One way: what makes inputs knows nothing of what is made of them.
    ("store", &["crate::fetch", "crate::plan", "crate::layer", "crate::layout", "crate::assemble"]),
    ("fetch", &["crate::plan", "crate::layer", "crate::layout", "crate::assemble"]),
    ("catalog", &["crate::plan", "crate::store", "crate::fetch", "crate::assemble"]),
    ("push/plan.rs", &["std::fs", "std::net", "std::process", "std::env", "std::time"]),
    ("push/content.rs", &["std::fs", "std::net", "std::process", "std::env", "std::time"]),
    ("push/docker.rs", &["std::fs", "std::net", "std::process", "std::env", "std::time"]),
    ("push", &["crate::plan", "crate::store", "crate::catalog", "crate::assemble"]),
    ("registry", &["crate::push", "crate::plan", "crate::layout", "crate::assemble"]),
    // The seam: what comes after the layout needs only the folder.
    ("acceptance", &["crate::plan", "crate::store", "crate::catalog", "crate::assemble"]),
    ("verify", &["crate::plan", "crate::store", "crate::catalog", "crate::assemble"]),
];

#[test]
fn nothing_uses_what_it_must_not() {
    for (place, forbidden) in BOUNDARIES {
        for (file, text) in sources(&Path::new("src").join(place)) {
            let product = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (number, line) in product.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                for name in *forbidden {
                    assert!(
                        !code.contains(name),
                        "{file}:{}: `{name}` is not allowed here",
                        number + 1
                    );
                }
            }
        }
    }
}

fn sources(path: &Path) -> Vec<(String, String)> {
    if path.is_file() {
        return vec![(path.display().to_string(), fs::read_to_string(path).unwrap())];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    entries.flat_map(|entry| sources(&entry.unwrap().path())).collect()
}
