//! The order of the rooms inside `etcdimg`, and which of them are pure. What the crates of the
//! workspace may use of each other is kept by the compiler.

use std::fs;
use std::path::Path;

/// The files and folders below `src`, in the order of use: each may import only those before it.
const ROOMS: &[&str] = &[
    "replace",
    "failure",
    "ui",
    "catalog",
    "layer",
    "plan",
    "program",
    "archive",
    "image",
    "documents",
    "base",
    "compile",
    "lookup",
    "push",
    "verify",
    "copy",
    "assemble",
    "cli",
    "commands",
    "main",
];

/// Crates of the workspace that `lib.rs` exports again: everybody may use them.
const CRATES: &[&str] = &[
    "acceptance",
    "digest",
    "docker",
    "fetch",
    "layout",
    "manifests",
    "platform",
    "process",
    "registry",
    "store",
];

const EFFECTS: &[&str] = &["std::fs", "std::net", "std::process", "std::env", "std::time"];

/// Rooms and files below `src` that compute and do nothing else.
const PURE: &[(&str, &[&str])] = &[
    ("plan", EFFECTS),
    ("image", EFFECTS),
    ("program", EFFECTS),
    ("archive", &["std::fs", "std::net", "std::process", "std::env"]),
    ("catalog/versions.rs", &["std::fs", "std::env", "std::time"]),
    ("catalog/target.rs", &["std::fs", "std::env", "std::time"]),
    ("catalog/lock.rs", &["std::fs", "std::env", "std::time"]),
    // Bytes of images: no clock and no environment.
    ("layer", &["std::env", "std::time", "std::net", "std::process"]),
    ("push/plan.rs", EFFECTS),
];

#[test]
fn rooms_import_only_those_before_them() {
    for entry in fs::read_dir("src").unwrap() {
        let path = entry.unwrap().path();
        let room = path.file_stem().unwrap().to_str().unwrap();
        // Git keeps no empty folders, but a working copy may have one that was left behind.
        let is_empty = path.is_dir() && fs::read_dir(&path).unwrap().next().is_none();
        if room == "lib" || is_empty {
            continue;
        }
        let place = ROOMS.iter().position(|it| *it == room);
        let place = place.unwrap_or_else(|| panic!("src/{room} has no place in ROOMS"));
        for (file, import) in imports(&path, "crate::") {
            let is_allowed = import == room
                || CRATES.contains(&import.as_str())
                || ROOMS[..place].contains(&import.as_str());
            assert!(is_allowed, "{file}: src/{room} may not use `crate::{import}`");
        }
    }
}

#[test]
fn pure_rooms_have_no_effects() {
    for (place, forbidden) in PURE {
        let path = Path::new("src").join(place);
        // A file that is not there any more would be pure for ever.
        assert!(path.exists(), "{} does not exist", path.display());
        for (file, import) in imports(&path, "std::") {
            let import = format!("std::{import}");
            assert!(!forbidden.contains(&import.as_str()), "{file}: `{import}` is not allowed");
        }
    }
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::{plan, store::{self, Store}, ui};\nlet x = crate::fetch::now();\n\
                // crate::nothing\nuse crate::http;\n#[cfg(test)]\nuse crate::layer;";
    assert_eq!(names(text, "crate::"), ["plan", "store", "ui", "fetch", "http"]);
}

/// What the product code below a path imports from a root, with the file.
fn imports(path: &Path, root: &str) -> Vec<(String, String)> {
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        // Folders and files of tests may use everything.
        return entries
            .filter(|path| path.file_stem().is_none_or(|name| name != "tests"))
            .flat_map(|path| imports(&path, root))
            .collect();
    }
    if path.extension().is_none_or(|kind| kind != "rs") {
        return Vec::new();
    }
    let text = fs::read_to_string(path).unwrap();
    let file = path.display().to_string();
    names(&text, root).into_iter().map(|name| (file.clone(), name)).collect()
}

/// The first segment of every path behind a root: of `crate::{a, b::c}` both `a` and `b`.
fn names(text: &str, root: &str) -> Vec<String> {
    let product = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = product.lines().map(|line| line.split("//").next().unwrap_or_default());
    let code = lines.collect::<Vec<_>>().join("\n");
    let found = code.match_indices(root).filter(|(at, _)| {
        let before = code[..*at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
    });
    found.flat_map(|(at, _)| first_segments(&code[at + root.len()..])).collect()
}

fn first_segments(path: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        let text = text.trim_start();
        text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(list) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut depth, mut start, mut segments) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                segments.push(name(&list[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    segments.retain(|name| !name.is_empty());
    segments
}
