//! The program that cargo starts instead of rustc: a shell script that removes this machine from
//! what rustc writes.

use std::path::Path;

/// The name of the script, in the stage and in the context of a builder.
pub(super) const NAME: &str = "rustc";

/// What the script does, in this order:
///
/// 1. Replaces `-C metadata=…`. Rust tells crates with the same name apart by a hash from cargo,
///    which depends on flags and on the path of the linker, and decides the names and the order
///    of functions. Name and version of the crate tell them apart, too; a crate of the standard
///    library, which cargo builds with the feature `rustc-dep-of-std`, gets a mark, because
///    `migrate` may use the same crate in the same version.
/// 2. Removes folders of this machine from paths in the program (`--remap-path-prefix`).
/// 3. Does so for the crates, too: they are in a folder whose name is a hash of the registry's
///    address, and that registry may be a mirror.
///
/// The words in `@` are replaced by [`script`].
const TEMPLATE: &str = r#"#!/bin/sh
kind=
case "$*" in *rustc-dep-of-std*) kind=-std ;; esac
n=$#
while [ $n -gt 0 ]; do
  word=$1
  shift
  case $word in metadata=*) word="metadata=$CARGO_PKG_NAME-$CARGO_PKG_VERSION$kind" ;; esac
  set -- "$@" "$word"
  n=$((n - 1))
done
set -- "$@" "@rustup@" "@cargo@" "@target@" "@root@"
case $CARGO_MANIFEST_DIR in
  */registry/src/*) set -- "$@" "--remap-path-prefix=${CARGO_MANIFEST_DIR%/*}=/crates" ;;
esac
exec "$@"
"#;

/// Folders of one machine that must not appear in the program.
pub(super) struct Folders<'a> {
    pub rustup_home: &'a Path,
    pub cargo_home: &'a Path,
    /// `CARGO_TARGET_DIR`
    pub target: &'a Path,
    /// The workspace that is compiled.
    pub root: &'a Path,
}

/// The text of the script.
pub(super) fn script(folders: &Folders<'_>) -> String {
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    TEMPLATE
        .replace("@rustup@", &remap(folders.rustup_home, "/rustup"))
        .replace("@cargo@", &remap(folders.cargo_home, "/cargo"))
        .replace("@target@", &remap(folders.target, "/target"))
        .replace("@root@", &remap(folders.root, "/etcdimg"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsString;
    use std::fs;

    use super::*;
    use crate::process::Invocation;

    /// `expected` is what rustc is started with when cargo starts the script with `arguments`.
    #[track_caller]
    fn check(package: &str, arguments: &[&str], expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let text = script(&Folders {
            rustup_home: "/rust up".as_ref(),
            cargo_home: "/cargo".as_ref(),
            target: "/target".as_ref(),
            root: "/stage".as_ref(),
        });
        fs::write(&path, text).unwrap();
        let (name, version) = package.split_once(' ').unwrap();
        let variable = |name: &str, value: &str| (name.to_owned(), value.into());
        let started = Invocation {
            program: "/bin/sh".into(),
            arguments: [path.to_str().unwrap(), "printf", "<%s>"]
                .iter()
                .chain(arguments)
                .map(OsString::from)
                .collect(),
            folder: folder.path().to_owned(),
            passed_on: BTreeMap::new(),
            environment: BTreeMap::from([
                variable("CARGO_PKG_NAME", name),
                variable("CARGO_PKG_VERSION", version),
                variable("CARGO_MANIFEST_DIR", "/a b/registry/src/mirror-0123/semver-1.0.0"),
            ]),
        };
        let printed = started.output().unwrap();
        let expected = format!("{expected}<--remap-path-prefix=/rust up=/rustup>");
        assert!(printed.starts_with(&expected), "{printed}");
        let expected =
            "/stage=/etcdimg><--remap-path-prefix=/a b/registry/src/mirror-0123=/crates>";
        assert!(printed.ends_with(expected), "{printed}");
    }

    #[test]
    fn a_crate_is_told_apart_by_its_name_and_version() {
        check(
            "semver 1.0.0",
            &["-C", "metadata=0123", "a b", "", "*", "$HOME", "it's"],
            "<-C><metadata=semver-1.0.0><a b><><*><$HOME><it's>",
        );
        // A crate that the standard library uses, too.
        check(
            "libc 0.2.0",
            &["--cfg", "feature=\"rustc-dep-of-std\"", "-C", "metadata=0123"],
            "<--cfg><feature=\"rustc-dep-of-std\"><-C><metadata=libc-0.2.0-std>",
        );
    }
}
