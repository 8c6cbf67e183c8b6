//! The order of the modules inside `etcdimg`, which of them are pure, and that no crate has a
//! circle of modules. What crates may use of each other is kept by the compiler.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The files and folders below `src`, in the order of use: each may import only those before it.
const MODULES: &[&str] = &[
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
    "package",
    "cli",
    "commands",
    "main",
];

const EFFECTS: &[&str] = &["std::fs", "std::net", "std::process", "std::env", "std::time"];

/// Modules and files below `src` that compute and do nothing else.
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
    ("package/contents.rs", EFFECTS),
    ("package/control.rs", EFFECTS),
    ("push/plan.rs", EFFECTS),
    ("push/estimate.rs", EFFECTS),
];

/// Names from the root of a crate to a module or an item in it.
type ItemPath = Vec<String>;

type Edges = BTreeMap<ItemPath, BTreeSet<ItemPath>>;

#[test]
fn modules_import_only_those_before_them() {
    for entry in fs::read_dir("src").unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap();
        // Git keeps no empty folders, but a working copy may have one that was left behind.
        let is_empty = path.is_dir() && fs::read_dir(&path).unwrap().next().is_none();
        if module == "lib" || is_empty {
            continue;
        }
        let place = MODULES.iter().position(|it| *it == module);
        let place = place.unwrap_or_else(|| panic!("src/{module} has no place in MODULES"));
        for (file, code) in product_files(&path) {
            for import in paths(&code, "crate::") {
                // Anything else is another crate, which `lib.rs` exports again.
                let position = MODULES.iter().position(|it| *it == import[0]);
                assert!(
                    position.is_none_or(|it| it <= place),
                    "{}: src/{module} may not use `crate::{}`",
                    file.display(),
                    import[0]
                );
            }
        }
    }
}

#[test]
fn pure_modules_have_no_effects() {
    for (place, forbidden) in PURE {
        let path = Path::new("src").join(place);
        // A file that is not there any more would be pure for ever.
        assert!(path.exists(), "{} does not exist", path.display());
        for (file, code) in product_files(&path) {
            for import in paths(&code, "std::") {
                let import = format!("std::{}", import[0]);
                let is_allowed = !forbidden.contains(&import.as_str());
                assert!(is_allowed, "{}: `{import}` is not allowed", file.display());
            }
        }
    }
}

#[test]
fn no_crate_has_a_circle_of_modules() {
    let crates = fs::read_dir("crates").unwrap().map(|it| it.unwrap().path().join("src"));
    let with_source = crates.filter(|path| path.is_dir()).chain([PathBuf::from("src")]);
    let mut count = 0;
    for root in with_source {
        let files = product_files(&root).into_iter();
        let modules: Vec<_> = files
            .map(|(file, code)| (module_of(file.strip_prefix(&root).unwrap()), code))
            .collect();
        count += modules.len();
        assert_eq!(circle(&modules), None, "{}: modules use each other", root.display());
    }
    assert!(count > 200, "only {count} modules were found");
}

#[test]
fn circles_are_found_in_every_form() {
    let circle = |files: &[(&str, &str)]| {
        let files = files.iter().map(|(file, code)| (module_of(Path::new(file)), product(code)));
        circle(&files.collect::<Vec<_>>())
    };
    let found = Some("a, b".to_owned());
    assert_eq!(circle(&[("a.rs", "use crate::b::B;"), ("b/mod.rs", "use super::a::A;")]), found);
    let exported = [("lib.rs", "use b::B;"), ("a.rs", "super::{x, B}"), ("b.rs", "crate::a::f()")];
    assert_eq!(circle(&exported), found);
    let inner = [("a.rs", "crate::b"), ("b/c.rs", "super::super::a::{self, A}"), ("b/mod.rs", "")];
    assert_eq!(circle(&inner), found);
    let three =
        [("m/a.rs", "super::b::B"), ("m/b.rs", "crate::m::c::x()"), ("m/c.rs", "super::a::A")];
    assert_eq!(circle(&three), Some("m::a, m::b, m::c".to_owned()));
    assert_eq!(circle(&three[..2]), None);
    // A module and its parent are one; tests may use everything.
    assert_eq!(circle(&[("a/mod.rs", "use b::B;"), ("a/b.rs", "use super::A;")]), None);
    let tested = [("a.rs", "use crate::b::B;"), ("b.rs", "#[cfg(test)]\nuse crate::a::A;\n")];
    assert_eq!(circle(&tested), None);
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::{plan, store::{self, Store}, ui};\nlet x = crate::fetch::now();\n\
                // crate::nothing\n#[cfg(test)]\n#[path = \"t.rs\"]\nmod tests;\nuse crate::http::*;\n\
                #[cfg(test)]\nmod more {\nuse crate::layer;\n}";
    let found: Vec<_> =
        paths(&product(text), "crate::").into_iter().map(|it| it.join("::")).collect();
    assert_eq!(found, ["plan", "store::self", "store::Store", "ui", "fetch::now", "http"]);
}

/// The modules of a circle, if there is one: siblings that use each other, also through others.
/// A module stands for all modules inside it.
fn circle(files: &[(ItemPath, String)]) -> Option<String> {
    let edges = sibling_edges(files);
    let first = edges.keys().find(|module| reached(&edges, module).contains(module))?;
    let circle =
        reached(&edges, first).into_iter().filter(|it| reached(&edges, it).contains(first));
    Some(circle.map(|module| module.join("::")).collect::<Vec<_>>().join(", "))
}

fn reached<'a>(edges: &'a Edges, start: &'a ItemPath) -> BTreeSet<&'a ItemPath> {
    let mut reached = BTreeSet::new();
    let mut open = vec![start];
    while let Some(module) = open.pop() {
        open.extend(edges.get(module).into_iter().flatten().filter(|it| reached.insert(*it)));
    }
    reached
}

/// Which modules use which of their siblings.
fn sibling_edges(files: &[(ItemPath, String)]) -> Edges {
    let modules: BTreeSet<_> = files.iter().map(|(module, _)| module).collect();
    // What a module imports from one inside it can also be named as its own: `crate::Digest`.
    let mut aliases = BTreeMap::new();
    for (module, code) in files {
        for path in paths(code, "use ") {
            let target = [&module[..], &path].concat();
            if modules.contains(&target[..=module.len()].to_vec()) {
                aliases.insert([&module[..], &path[path.len() - 1..]].concat(), target);
            }
        }
    }
    let module_with = |mut item: ItemPath| {
        let alias = |item: &ItemPath| {
            let mut starts = (1..=item.len()).map(|length| &item[..length]);
            starts
                .find(|start| !modules.contains(&start.to_vec()) && aliases.contains_key(*start))
                .map(<[_]>::len)
        };
        while let Some(length) = alias(&item) {
            item = [&aliases[&item[..length]], &item[length..]].concat();
        }
        while !item.is_empty() && !modules.contains(&item) {
            item.pop();
        }
        item
    };
    let mut edges = Edges::new();
    for (module, code) in files {
        let absolute = paths(code, "crate::");
        let relative = paths(code, "super::").into_iter().map(|path| {
            let ups = path.iter().take_while(|name| *name == "super").count();
            [&module[..module.len().saturating_sub(ups + 1)], &path[ups..]].concat()
        });
        for target in absolute.into_iter().chain(relative).map(module_with) {
            let common = module.iter().zip(&target).take_while(|(own, other)| own == other).count();
            if common < module.len().min(target.len()) {
                let edge = edges.entry(module[..=common].to_vec()).or_default();
                edge.insert(target[..=common].to_vec());
            }
        }
    }
    edges
}

/// The module that a file is, by its path below the folder of the crate.
fn module_of(file: &Path) -> ItemPath {
    let file = file.with_extension("");
    let names = file.iter().map(|name| name.to_str().unwrap().to_owned());
    let mut module: Vec<_> = names.collect();
    module.pop_if(|name| ["mod", "lib", "main"].contains(&name.as_str()));
    module
}

/// Every file at or below a path, with its product code. Tests may use everything.
fn product_files(path: &Path) -> Vec<(PathBuf, String)> {
    let name = path.file_stem().unwrap().to_str().unwrap();
    if name == "tests" || name.ends_with("_tests") {
        return Vec::new();
    }
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        return entries.flat_map(|path| product_files(&path)).collect();
    }
    if path.extension().is_none_or(|kind| kind != "rs") {
        return Vec::new();
    }
    vec![(path.to_owned(), product(&fs::read_to_string(path).unwrap()))]
}

/// The text without comments, and without what is compiled for tests alone.
fn product(text: &str) -> String {
    let mut parts = text.split("#[cfg(test)]\n");
    let mut code = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // A declaration such as `mod tests;`; anything longer is at the end of a file.
        let mut lines = part.split_inclusive('\n').skip_while(|line| line.starts_with("#["));
        if !lines.next().is_some_and(|line| line.trim_end().ends_with(';')) {
            break;
        }
        code.extend(lines);
    }
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Every path behind a root: of `crate::{a, b::c}` both `a` and `b::c`.
fn paths(code: &str, root: &str) -> Vec<ItemPath> {
    let found = code.match_indices(root).filter(|(at, _)| {
        let before = code[..*at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
    });
    found.flat_map(|(at, _)| expand(&code[at + root.len()..])).collect()
}

fn expand(tree: &str) -> Vec<ItemPath> {
    let tree = tree.trim_start();
    if let Some(list) = tree.strip_prefix('{') {
        return elements(list).into_iter().flat_map(expand).collect();
    }
    let name: String = tree.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if name.is_empty() {
        return Vec::new();
    }
    let below = tree[name.len()..].strip_prefix("::").map(expand).unwrap_or_default();
    if below.is_empty() {
        return vec![vec![name]];
    }
    below.into_iter().map(|path| [vec![name.clone()], path].concat()).collect()
}

/// The elements of a list in braces, from behind its `{`.
fn elements(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut elements) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                elements.push(&list[start..at]);
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    elements
}
