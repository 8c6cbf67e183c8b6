//! The program that cargo starts instead of rustc: a shell script that removes this machine from
//! what rustc writes.

use std::path::Path;

/// The name of the script, in the folder and in the context of a builder.
pub(super) const NAME: &str = "rustc";

/// What the script does, in this order:
///
/// 1. Replaces `-C metadata=…`. Rust tells crates with the same name apart by a hash from cargo,
///    which depends on flags and on the path of the linker, and decides the names and the order
///    of functions. Name and version of the crate tell them apart, too; a crate of the standard
///    library, which cargo builds with the feature `rustc-dep-of-std`, gets a mark, because
///    `migrate` may use the same crate in the same version.
/// 2. Gives the files of such a crate a mark, too, and links at the names that cargo expects.
///    Those names end with the same hash, and the names of their files decide in which order two
///    crates with the same name are linked: `memchr` of `migrate` and `memchr` of the standard
///    library.
/// 3. Removes folders of this machine from paths in the program (`--remap-path-prefix`).
/// 4. Does so for the crates, too: they are in a folder whose name is a hash of the registry's
///    address, and that registry may be a mirror.
///
/// The words in `@` are replaced by [`script`].
const TEMPLATE: &str = r#"#!/bin/sh
kind=
case "$*" in *'feature="rustc-dep-of-std"'*) kind=-std ;; esac
files= before=
case "$*" in *"--crate-type lib"*) files=$kind ;; esac
n=$#
while [ $n -gt 0 ]; do
  word=$1
  shift
  case $before in --crate-name) name=$word ;; --out-dir) folder=$word ;; esac
  before=$word
  case $word in
    metadata=*) word="metadata=$CARGO_PKG_NAME-$CARGO_PKG_VERSION$kind" ;;
    extra-filename=*) hash=${word#*=} word="extra-filename=$files$hash" ;;
  esac
  set -- "$@" "$word"
  n=$((n - 1))
done
link() { ln -sf "$1$files$hash.$2" "$folder/$1$hash.$2" || exit; }
if [ -n "$files" ]; then
  link "lib$name" rlib
  link "lib$name" rmeta
  link "$name" d
fi
set -- "$@" "@rustup@" "@cargo@" "@target@" "@root@"
case $CARGO_MANIFEST_DIR in
  */registry/src/*) set -- "$@" "--remap-path-prefix=${CARGO_MANIFEST_DIR%/*}=/crates" ;;
esac
exec "$@"
"#;

/// Folders of one machine that must not appear in the program.
pub(super) struct MachineFolders<'a> {
    pub rustup_home: &'a Path,
    pub cargo_home: &'a Path,
    /// `CARGO_TARGET_DIR`
    pub target: &'a Path,
    /// The workspace that is compiled.
    pub root: &'a Path,
}

/// The text of the script.
pub(super) fn script(folders: &MachineFolders<'_>) -> String {
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
        let text = script(&MachineFolders {
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
    fn crates_are_distinguished_by_name_and_version() {
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

    #[test]
    fn files_of_a_crate_of_the_standard_library_have_a_mark_and_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let deps = folder.path().to_str().unwrap();
        // Every crate that has the feature names it among those that may be set.
        let known = "cfg(feature, values(\"rustc-dep-of-std\"))";
        let arguments = ["--crate-name", "memchr", "--crate-type", "lib", "--check-cfg", known];
        let feature = ["--cfg", "feature=\"rustc-dep-of-std\""];
        let output = ["--out-dir", deps, "-C", "extra-filename=-0123"];
        let marked = format!("<--out-dir><{deps}><-C><extra-filename=-std-0123>");
        let library = format!("<--crate-name><memchr><--crate-type><lib><--check-cfg><{known}>");
        check(
            "memchr 2.0.0",
            &[&arguments[..], &feature, &output].concat(),
            &format!("{library}<--cfg><feature=\"rustc-dep-of-std\">{marked}"),
        );
        let target = |name: &str| fs::read_link(folder.path().join(name)).unwrap();
        assert_eq!(target("libmemchr-0123.rlib"), Path::new("libmemchr-std-0123.rlib"));
        assert_eq!(target("libmemchr-0123.rmeta"), Path::new("libmemchr-std-0123.rmeta"));
        assert_eq!(target("memchr-0123.d"), Path::new("memchr-std-0123.d"));
        // A crate of `migrate` with the same name.
        check(
            "memchr 2.0.0",
            &[&arguments[..], &output].concat(),
            &format!("{library}{}", marked.replace("-std", "")),
        );
    }
}
