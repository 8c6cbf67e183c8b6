//! What the compilers are called with, and the keys under which the store keeps what they made.
//! Both must stay the same when this code is rearranged: another key compiles everything again,
//! and another call may make other bytes.
//!
//! The compilers here are scripts that write down how they were called.

mod etcd;
mod migrate;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::catalog::Lock;
use crate::catalog::lock::ToolchainLock;
use crate::store::Store;
use crate::ui::{ProgressMode, Ui, Verbosity};

/// Writes down the folder, the environment and the arguments.
const RECORDER: &str = r#"#!/bin/sh
{
  echo "$(basename "$0") in $PWD"
  env | grep -Ev '^(PATH|PWD|OLDPWD|SHLVL|_)=' | LC_ALL=C sort | sed 's/^/  /'
  for word in "$@"; do echo "  <$word>"; done
} >> "$CALLS"
"#;

const GO: &str = r#"
case "$1 $2" in
  "env GOPROXY") printf 'https://proxy.example\n\n\n\n\n\n' ;;
  "env GOROOT") printf '/goroot\nlinux\namd64\n/modules\n' ;;
  build*) while [ "$1" != -o ]; do shift; done; echo "$2" > "$2" ;;
esac
"#;

const RUSTC: &str = r"
case $1 in --version) echo 'rustc 1.95.0 (0123 2026-01-01)' ;; *) echo /sysroot ;; esac
";

const ZIGBUILD: &str = r#"
for word in "$@"; do case $word in --target=*) triple=${word#--target=} ;; esac; done
mkdir -p "$CARGO_TARGET_DIR/$triple/image"
for suffix in '' .exe; do echo migrate > "$CARGO_TARGET_DIR/$triple/image/migrate$suffix"; done
cat "$RUSTC_WRAPPER" >> "$CALLS"
"#;

const DOCKER: &str = r#"
for word in "$@"; do
  case $word in
    --file=*) cat "${word#--file=}" >> "$CALLS" ;;
    --output=*) out=${word#*dest=} ;;
  esac
  context=$word
done
(cd "$context" && find . -type f | LC_ALL=C sort) >> "$CALLS"
mkdir "$out"
for name in etcd etcdctl etcdutl migrate; do echo $name > "$out/$name"; done
"#;

/// A repository, a cache, and compilers that are scripts.
struct FakeToolchains {
    folder: tempfile::TempDir,
    store: Store,
    options: CompileOptions,
    lock: Lock,
    ui: Ui,
}

impl FakeToolchains {
    fn new(builder: Builder) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| {
            let path = path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        for name in ["Cargo.lock", "Cargo.toml", "crates/etcd-version/a", "crates/migrate/src/b"] {
            write(&format!("checkout/{name}"), name);
        }
        for name in ["scripts/builder-toolchain", "crates/xtask/zig.txt", "versions.yaml"] {
            write(&format!("checkout/{name}"), name);
        }
        for name in ["go.mod", "go.sum"] {
            write(&format!("checkout/sources/3.6.14/{name}"), name);
            write(&format!("checkout/sources/3.4.21/{name}"), name);
        }
        write("cache/parts/rust-1.95.0/library/Cargo.lock", "");
        let programs = [
            ("bin/go", GO),
            ("bin/rustc", RUSTC),
            ("bin/cargo", ""),
            ("bin/docker", DOCKER),
            ("cache/parts/zig-0.17.0/zig", ""),
            ("cache/parts/zig-0.17.0/cargo-zigbuild", ZIGBUILD),
        ];
        for (name, script) in programs {
            write(name, &format!("{RECORDER}{script}"));
        }
        // Without any toolchain; and this machine's own rustup is not asked.
        write("bin/rustup", "#!/bin/sh\nexit 1\n");
        let variable = |name: &str, value: OsString| (name.to_owned(), value);
        let search = format!("{}:/usr/bin:/bin", path("bin").display());
        let options = CompileOptions {
            root: path("checkout"),
            work: path("cache"),
            environment: BTreeMap::from([
                variable("PATH", search.into()),
                variable("HOME", "/home/builder".into()),
                variable("CALLS", path("calls").into()),
            ]),
            network: Network::Allowed,
            jobs: 2,
            at_once: None,
            builder,
        };
        let store = Store::open(path("cache")).unwrap();
        let ui = Ui::new(Verbosity::Quiet, ProgressMode::None);
        Self { folder, store, options, lock: lock(), ui }
    }

    /// Puts a script in the place of a compiler.
    fn set_program(&self, name: &str, script: &str) {
        let path = self.folder.path().join("bin").join(name);
        fs::write(path, format!("{RECORDER}{script}")).unwrap();
    }

    fn context(&self) -> CompileContext<'_> {
        let Self { store, options, lock, ui, .. } = self;
        CompileContext { store, options, lock, ui }
    }

    /// All calls so far, without what is different in every run.
    fn calls(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        let text = text.replace(&self.folder.path().display().to_string(), "");
        // Cargo's separator of flags.
        let text = text.replace('\u{1f}', " ");
        let scratch = |line: &str| match line.split_once("/cache/compile/.tmp") {
            Some((before, after)) => format!("{before}/cache/compile/SCRATCH{}", &after[6..]),
            None => line.to_owned(),
        };
        let text: String = text.lines().map(|line| scratch(line) + "\n").collect();
        without_repetition(&text)
    }

    /// The keys of everything that was compiled.
    fn keys(&self) -> String {
        let folder = self.folder.path().join("cache/records/compile");
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names.join("\n")
    }
}

/// Most calls have the environment of the call before.
fn without_repetition(text: &str) -> String {
    let is_variable = |line: &str| {
        let name = line.strip_prefix("  ").and_then(|line| line.split_once('='));
        name.is_some_and(|(name, _)| {
            name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_')
        })
    };
    let (mut shorter, mut last, mut variables) = (String::new(), String::new(), String::new());
    for line in text.lines() {
        if is_variable(line) {
            variables = variables + line + "\n";
            continue;
        }
        if !variables.is_empty() {
            let is_same = variables == last;
            shorter += if is_same { "  (the same environment)\n" } else { &variables };
            last = std::mem::take(&mut variables);
        }
        shorter = shorter + line + "\n";
    }
    shorter
}

fn buildx(name: Option<&str>) -> Builder {
    Builder::Buildx(BuildxOptions {
        image: "golang@sha256:1".to_owned(),
        name: name.map(str::to_owned),
        cache_to: vec!["type=local,dest=to".to_owned()],
        cache_from: vec!["type=local,src=from".to_owned()],
        environment: BTreeMap::from([("DOCKER_HOST".to_owned(), "unix:///docker".into())]),
    })
}

fn lock() -> Lock {
    let toolchain =
        |host: &str, sum: &str| ToolchainLock::new("1.25.12".into(), host.into(), sum.into());
    Lock {
        catalog: Digest::of(""),
        releases: Vec::new(),
        sources: Vec::new(),
        toolchains: vec![toolchain("linux-amd64", "h1:one="), toolchain("linux-arm64", "h1:two=")],
        bases: Vec::new(),
    }
}
