//! Calls of cargo and rustc.

use super::*;
use crate::plan::WorkspaceSource;
use crate::process::Invocation;

fn workspace(triple: &str, platform: &str) -> WorkspaceSource {
    WorkspaceSource {
        rust: "1.95.0".to_owned(),
        zig: "0.17.0".to_owned(),
        triple: triple.to_owned(),
        platform: platform.parse().unwrap(),
    }
}

#[test]
fn migrate_is_compiled_by_the_host() {
    let fake = FakeToolchains::new(Builder::Host);
    let source = workspace("x86_64-pc-windows-gnu", "windows/amd64");
    let compiled = compile_migrate(&fake.context(), &source).unwrap();
    assert_eq!(compiled.name, "migrate");
    download_crates(&fake.context(), &source).unwrap();
    insta::assert_snapshot!(fake.keys(), @"13f229583727ad514e8753ea04616fa86251425ef65e4107e3ec375f13808a22");
    insta::assert_snapshot!(fake.calls(), @r#"
    rustc in /cache
      CALLS=/calls
      HOME=/home/builder
      <--version>
    cargo in /cache/migrate/rust-6/x86_64-pc-windows-gnu/stage
      CALLS=/calls
      CARGO_BUILD_JOBS=2
      CARGO_ENCODED_RUSTFLAGS=-Ctarget-feature=+crt-static -Clink-self-contained=no
      CARGO_TARGET_DIR=/cache/migrate/rust-6/x86_64-pc-windows-gnu/target
      CARGO_ZIGBUILD_CACHE_DIR=/cache/zig
      CARGO_ZIGBUILD_ZIG_PATH=/cache/parts/zig-0.17.0/zig
      HOME=/home/builder
      RUSTC_BOOTSTRAP=1
      RUSTC_WRAPPER=/cache/migrate/rust-6/x86_64-pc-windows-gnu/stage/rustc
      SOURCE_DATE_EPOCH=0
      ZIG_GLOBAL_CACHE_DIR=/cache/zig/global
      ZIG_LOCAL_CACHE_DIR=/cache/zig/local
      __CARGO_TESTS_ONLY_SRC_ROOT=/cache/migrate/rust-6/x86_64-pc-windows-gnu/stage/library
      <clean>
      <--offline>
      <--profile=image>
      <--package=migrate>
      <--package=etcd-version>
      <--target=x86_64-pc-windows-gnu>
    cargo-zigbuild in /cache/migrate/rust-6/x86_64-pc-windows-gnu/stage
      (the same environment)
      <zigbuild>
      <--locked>
      <--profile=image>
      <--package=migrate>
      <--target=x86_64-pc-windows-gnu>
      <-Zbuild-std=std,panic_abort>
    #!/bin/sh
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
    set -- "$@" "--remap-path-prefix=/home/builder/.rustup=/rustup" "--remap-path-prefix=/home/builder/.cargo=/cargo" "--remap-path-prefix=/cache/migrate/rust-6/x86_64-pc-windows-gnu/target=/target" "--remap-path-prefix=/cache/migrate/rust-6/x86_64-pc-windows-gnu/stage=/etcdimg"
    case $CARGO_MANIFEST_DIR in
      */registry/src/*) set -- "$@" "--remap-path-prefix=${CARGO_MANIFEST_DIR%/*}=/crates" ;;
    esac
    exec "$@"
    cargo in /cache/migrate/rust-6/x86_64-pc-windows-gnu/stage
      CALLS=/calls
      CARGO_BUILD_JOBS=2
      CARGO_ENCODED_RUSTFLAGS=-Ctarget-feature=+crt-static -Clink-self-contained=no
      CARGO_TARGET_DIR=/cache/migrate/rust-6/x86_64-pc-windows-gnu/target
      CARGO_ZIGBUILD_CACHE_DIR=/cache/zig
      CARGO_ZIGBUILD_ZIG_PATH=/cache/parts/zig-0.17.0/zig
      HOME=/home/builder
      RUSTC_BOOTSTRAP=1
      RUSTC_WRAPPER=/cache/migrate/rust-6/x86_64-pc-windows-gnu/stage/rustc
      SOURCE_DATE_EPOCH=0
      ZIG_GLOBAL_CACHE_DIR=/cache/zig/global
      ZIG_LOCAL_CACHE_DIR=/cache/zig/local
      __CARGO_TESTS_ONLY_SRC_ROOT=/cache/migrate/rust-6/x86_64-pc-windows-gnu/stage/library
      <fetch>
      <--locked>
      <--target>
      <x86_64-pc-windows-gnu>
      <-Zbuild-std=std,panic_abort>
    "#);
}

/// rustup, whose default is another release than the one of versions.yaml.
const OTHER_DEFAULT: &str = r"
case ${RUSTUP_TOOLCHAIN-default} in
  1.95.0*) echo 'rustc 1.95.0 (0123 2026-01-01)' ;;
  *) echo 'rustc 1.90.0 (0123 2025-01-01)' ;;
esac
";

/// rustup, with that release.
const RUSTUP: &str = r#"
[ "$*" = "run 1.95.0 rustc --version" ] && echo 'rustc 1.95.0 (0123 2026-01-01)'
"#;

#[test]
fn rustup_gets_the_release_that_it_has() {
    let usual = FakeToolchains::new(Builder::Host);
    let source = workspace("x86_64-pc-windows-gnu", "windows/amd64");
    compile_migrate(&usual.context(), &source).unwrap();

    let fake = FakeToolchains::new(Builder::Host);
    fake.set_program("rustc", OTHER_DEFAULT);
    fake.set_program("rustup", RUSTUP);
    compile_migrate(&fake.context(), &source).unwrap();
    assert_eq!(fake.keys(), usual.keys());
    let calls = fake.calls();
    insta::assert_snapshot!(calls.lines().take(12).collect::<Vec<_>>().join("\n"), @r"
    rustup in /cache
      CALLS=/calls
      HOME=/home/builder
      RUSTUP_AUTO_INSTALL=0
      <run>
      <1.95.0>
      <rustc>
      <--version>
    rustc in /cache
      CALLS=/calls
      HOME=/home/builder
      RUSTUP_TOOLCHAIN=1.95.0
    ");
    let is_called_with_toolchain = |call: &str| {
        let rest = calls.split_once(&format!("{call} in ")).unwrap().1;
        rest.split_once("\n  <").unwrap().0.contains("RUSTUP_TOOLCHAIN=1.95.0")
    };
    assert!(is_called_with_toolchain("rustc") && is_called_with_toolchain("cargo"), "{calls}");
}

#[test]
fn a_toolchain_that_the_user_chose_is_kept() {
    let mut fake = FakeToolchains::new(Builder::Host);
    fake.set_program("rustc", OTHER_DEFAULT);
    fake.set_program("rustup", RUSTUP);
    let source = workspace("x86_64-pc-windows-gnu", "windows/amd64");
    let mut choose = |toolchain: &str| {
        fake.options.environment.insert("RUSTUP_TOOLCHAIN".to_owned(), toolchain.into());
        compile_migrate(&fake.context(), &source)
    };
    let error = choose("nightly").unwrap_err();
    assert!(matches!(error, CompileError::WrongRust { received, .. } if received == "1.90.0"));
    choose("1.95.0-x86_64-unknown-linux-gnu").unwrap();
    assert!(!fake.calls().contains("rustup in"), "{}", fake.calls());
}

#[test]
fn without_that_release_rustup_decides() {
    let fake = FakeToolchains::new(Builder::Host);
    fake.set_program("rustc", OTHER_DEFAULT);
    let source = workspace("x86_64-pc-windows-gnu", "windows/amd64");
    let error = compile_migrate(&fake.context(), &source).unwrap_err();
    assert!(matches!(error, CompileError::WrongRust { .. }), "{error:?}");
    // Its default may be of that release.
    fake.set_program("rustc", RUSTC);
    compile_migrate(&fake.context(), &source).unwrap();
    assert!(!fake.calls().contains("RUSTUP_TOOLCHAIN"), "{}", fake.calls());
}

#[test]
fn what_was_compiled_of_sources_that_changed_meanwhile_is_not_kept() {
    let edit = |script: &str| {
        format!("{script}\necho edited >> \"${{CALLS%/*}}/checkout/crates/migrate/src/b\"\n")
    };
    for (builder, name, script) in
        [(Builder::Host, "cargo", ""), (buildx(Some("far")), "docker", DOCKER)]
    {
        let fake = FakeToolchains::new(builder);
        let source = workspace("x86_64-pc-windows-gnu", "windows/amd64");
        fake.set_program(name, &edit(script));
        let error = compile_migrate(&fake.context(), &source).unwrap_err();
        assert!(matches!(error, CompileError::SourcesChanged { .. }), "{error:?}");
        fake.set_program(name, script);
        let calls = fake.calls().len();
        compile_migrate(&fake.context(), &source).unwrap();
        assert!(fake.calls().len() > calls, "{name}");
    }
}

/// A compile reads the sources by links in its build folder, and a download of another checkout
/// would change them.
#[test]
fn nobody_else_may_use_the_build_folder_during_a_download() {
    let fake = FakeToolchains::new(Builder::Host);
    let source = workspace("x86_64-pc-windows-gnu", "windows/amd64");
    let lock = fake.options.work.join("tmp/migrate-x86_64-pc-windows-gnu.lock");
    let lock = format!("flock --nonblock {} true", lock.display());
    // Fails where the lock is free.
    fake.set_program("cargo", &format!("\nif {lock}; then exit 1; fi\n"));
    download_crates(&fake.context(), &source).unwrap();
}

#[test]
fn migrate_is_compiled_by_buildx() {
    let fake = FakeToolchains::new(buildx(Some("far")));
    let source = workspace("s390x-unknown-linux-musl", "linux/s390x");
    let compiled = compile_migrate(&fake.context(), &source).unwrap();
    assert_eq!(compiled.name, "migrate");
    insta::assert_snapshot!(fake.keys(), @"be97d934e840adb121b311d373cabe93b492fdbe2ffa8b384ee46470abb196e8");
    insta::assert_snapshot!(fake.calls(), @r"
    docker in /cache
      CALLS=/calls
      DOCKER_HOST=unix:///docker
      HOME=/home/builder
      <buildx>
      <build>
      <--provenance=false>
      <--sbom=false>
      <--progress=rawjson>
      <--builder=far>
      <--cache-from=type=local,src=from>
      <--cache-to=type=local,dest=to>
      <--platform=linux/s390x>
      <--file=/cache/compile/SCRATCH/Dockerfile>
      <--output=type=local,dest=/cache/compile/SCRATCH/out>
      </cache/compile/SCRATCH/context>
    # Written by etcdimg: compiles migrate for linux/s390x.
    # The builder, by its digest, on the machine's own architecture.
    FROM --platform=$BUILDPLATFORM golang@sha256:1 AS fetch
    ENV PATH=/opt/etcdimg/rust/bin:$PATH
    ENV RUSTUP_HOME=/opt/etcdimg/rustup
    COPY scripts/builder-toolchain /etcdimg/scripts/builder-toolchain
    COPY crates/xtask/zig.txt /etcdimg/crates/xtask/zig.txt
    COPY versions.yaml /etcdimg/versions.yaml
    # The compiler where the image has none, its library's sources, and zig.
    RUN /etcdimg/scripts/builder-toolchain /opt/etcdimg
    COPY Cargo.lock /etcdimg/Cargo.lock
    COPY Cargo.toml /etcdimg/Cargo.toml
    COPY crates/etcd-version /etcdimg/crates/etcd-version
    COPY crates/migrate /etcdimg/crates/migrate
    COPY rustc /etcdimg/rustc
    RUN mkdir -p /opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/stage/src /opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/stage/tests/it && \
        touch /opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/stage/src/lib.rs /opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/stage/src/main.rs /opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/stage/tests/it/main.rs && \
        for crate in /etcdimg/crates/*; do [ -d $crate/src ] || { mkdir $crate/src && touch $crate/src/lib.rs $crate/src/main.rs; }; done && \
        ln -s /etcdimg/Cargo.lock /etcdimg/Cargo.toml /etcdimg/crates /opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/stage/ && \
        ln -s /opt/etcdimg/parts/rust-1.95.0/library /opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/stage/library && \
        cp /etcdimg/rustc /opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/stage/rustc && chmod 0755 /opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/stage/rustc
    # The crates of migrate, which Cargo.lock pins.
    RUN cd /opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/stage && \
        CARGO_ENCODED_RUSTFLAGS='-Ctarget-feature=+crt-static -Clink-self-contained=no' CARGO_HOME=/opt/etcdimg/cargo CARGO_TARGET_DIR=/opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/target CARGO_ZIGBUILD_CACHE_DIR=/opt/etcdimg/zig CARGO_ZIGBUILD_ZIG_PATH=/opt/etcdimg/parts/zig-0.17.0/zig RUSTC_BOOTSTRAP=1 RUSTC_WRAPPER=/opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/stage/rustc SOURCE_DATE_EPOCH=0 ZIG_GLOBAL_CACHE_DIR=/opt/etcdimg/zig/global ZIG_LOCAL_CACHE_DIR=/opt/etcdimg/zig/local __CARGO_TESTS_ONLY_SRC_ROOT=/opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/stage/library cargo fetch --locked --target s390x-unknown-linux-musl -Zbuild-std=std,panic_abort

    FROM fetch AS compile
    RUN --network=none --mount=type=cache,id=etcdimg-migrate-rust-6-s390x-unknown-linux-musl,target=/opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/target --mount=type=cache,id=etcdimg-zig,target=/opt/etcdimg/zig (cd /opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/stage && CARGO_ENCODED_RUSTFLAGS='-Ctarget-feature=+crt-static -Clink-self-contained=no' CARGO_HOME=/opt/etcdimg/cargo CARGO_TARGET_DIR=/opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/target CARGO_ZIGBUILD_CACHE_DIR=/opt/etcdimg/zig CARGO_ZIGBUILD_ZIG_PATH=/opt/etcdimg/parts/zig-0.17.0/zig RUSTC_BOOTSTRAP=1 RUSTC_WRAPPER=/opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/stage/rustc SOURCE_DATE_EPOCH=0 ZIG_GLOBAL_CACHE_DIR=/opt/etcdimg/zig/global ZIG_LOCAL_CACHE_DIR=/opt/etcdimg/zig/local __CARGO_TESTS_ONLY_SRC_ROOT=/opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/stage/library cargo clean --offline --profile=image --package=migrate --package=etcd-version --target=s390x-unknown-linux-musl) && \
        cd /opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/stage && CARGO_ENCODED_RUSTFLAGS='-Ctarget-feature=+crt-static -Clink-self-contained=no' CARGO_HOME=/opt/etcdimg/cargo CARGO_TARGET_DIR=/opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/target CARGO_ZIGBUILD_CACHE_DIR=/opt/etcdimg/zig CARGO_ZIGBUILD_ZIG_PATH=/opt/etcdimg/parts/zig-0.17.0/zig RUSTC_BOOTSTRAP=1 RUSTC_WRAPPER=/opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/stage/rustc SOURCE_DATE_EPOCH=0 ZIG_GLOBAL_CACHE_DIR=/opt/etcdimg/zig/global ZIG_LOCAL_CACHE_DIR=/opt/etcdimg/zig/local __CARGO_TESTS_ONLY_SRC_ROOT=/opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/stage/library /opt/etcdimg/parts/zig-0.17.0/cargo-zigbuild zigbuild --locked --profile=image --package=migrate --target=s390x-unknown-linux-musl -Zbuild-std=std,panic_abort --offline && \
        mkdir -p /out && cp /opt/etcdimg/migrate/rust-6/s390x-unknown-linux-musl/target/s390x-unknown-linux-musl/image/migrate /out/migrate

    FROM scratch
    COPY --from=compile /out/ /
    ./Cargo.lock
    ./Cargo.toml
    ./crates/etcd-version/a
    ./crates/migrate/src/b
    ./crates/xtask/zig.txt
    ./rustc
    ./scripts/builder-toolchain
    ./versions.yaml
    ");
}

/// Runs the steps of the Dockerfile up to cargo, here. Another crate, or another test or bench in
/// a manifest, must not make the workspace one that cargo refuses to read.
#[test]
fn the_inputs_of_the_builder_are_a_workspace() {
    let fake = FakeToolchains::new(buildx(None));
    let Builder::Buildx(buildx) = &fake.options.builder else { unreachable!() };
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let options = CompileOptions { root: root.to_owned(), ..fake.options.clone() };
    let source = workspace("s390x-unknown-linux-musl", "linux/s390x");
    let run = rust::in_builder::run(&options, buildx, &source).unwrap();
    let folder = fake.folder.path();
    for input in &run.inputs {
        let to = folder.join("etcdimg").join(input);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        run_here(folder, "cp", &["-r", root.join(input).to_str().unwrap(), to.to_str().unwrap()]);
    }
    let (name, wrapper) = run.written.unwrap();
    fs::write(folder.join("etcdimg").join(name), wrapper).unwrap();
    let here = |text: &str| {
        let work = text.replace("/opt/etcdimg", &folder.join("opt").display().to_string());
        work.replace(" /etcdimg/", &format!(" {}/", folder.join("etcdimg").display()))
    };
    let script = run.fetch.iter().find_map(|it| match it {
        buildx::Instruction::Shell(text) if text.contains("ln -s") => Some(here(text)),
        _ => None,
    });
    run_here(folder, "sh", &["-ec", &script.unwrap()]);
    let stage = folder.join("opt/migrate/rust-6/s390x-unknown-linux-musl/stage");
    // As in the builder: `tree` and `metadata` accept targets whose files are missing.
    let target = format!("--target={}-unknown-linux-gnu", std::env::consts::ARCH);
    run_here(&stage, env!("CARGO"), &["fetch", "--locked", "--offline", &target]);
}

fn run_here(folder: &std::path::Path, program: &str, arguments: &[&str]) -> String {
    let command = Invocation {
        program: program.into(),
        arguments: arguments.iter().map(OsString::from).collect(),
        folder: folder.to_owned(),
        passed_on: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect(),
        environment: BTreeMap::new(),
    };
    command.output().unwrap()
}
