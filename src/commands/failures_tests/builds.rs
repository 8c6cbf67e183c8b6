//! Errors of compilers and of a build.

use super::*;
use crate::archive::ArchiveError;
use crate::process::ProcessError;
use crate::program::WrongProgram;

#[test]
#[expect(clippy::too_many_lines, reason = "one table, and its snapshot")]
fn compilers() {
    let process = || ProcessError::Refused {
        command: text("cargo build"),
        status: text("exit status: 101"),
        tail: text("  the last line"),
    };
    let what = || text("migrate for linux/amd64");
    let (expected, received) = (|| text("1.95.0"), || text("1.90.0"));
    let tool = |tool: &str| CompileError::NoTool { tool: text(tool) };
    let rows = vec![
        ("Process", CompileError::Process { what: what(), source: process() }.into()),
        ("Offline", CompileError::Offline { what: what(), source: Box::new(process()) }.into()),
        ("OfflineBuildx", CompileError::OfflineBuildx { what: what() }.into()),
        ("NoOutput", CompileError::NoOutput { what: what() }.into()),
        ("SourcesChanged", CompileError::SourcesChanged { what: "migrate" }.into()),
        ("NoTool, go", tool("go").into()),
        ("NoTool, another", tool("rustc").into()),
        (
            "WrongRust",
            CompileError::WrongRust { expected: expected(), received: received() }.into(),
        ),
        (
            "NoCross",
            CompileError::NoCross {
                triple: text("s390x-unknown-linux-musl"),
                rust: text("1.95.0"),
                zig: text("0.17.0"),
            }
            .into(),
        ),
        (
            "WrongModule",
            CompileError::WrongModule {
                version: text("3.6.14"),
                file: "go.sum",
                expected: expected(),
                received: received(),
            }
            .into(),
        ),
        (
            "WrongToolchain",
            CompileError::WrongToolchain {
                go: text("1.25.12"),
                expected: expected(),
                received: received(),
            }
            .into(),
        ),
        (
            "NoToolchain",
            CompileError::NoToolchain { go: text("1.25.12"), host: text("linux-amd64") }.into(),
        ),
        ("Io", CompileError::Io { path: path(), source: denied() }.into()),
        ("Store", CompileError::Store(store_io(denied())).into()),
    ];
    insta::assert_snapshot!(table(rows), @"
    Process, exit 6
    error: cannot compile migrate for linux/amd64
      because: `cargo build` failed with exit status: 101
      the last line

    Offline, exit 5
    error: migrate for linux/amd64: an input is not in the cache, and --offline is set
      because: `cargo build` failed with exit status: 101
      the last line
    hint: run `etcdimg fetch` without `--offline`, with the same flags as this build

    OfflineBuildx, exit 5
    error: migrate for linux/amd64: buildx downloads its inputs, and --offline is set
    hint: use `--builder host` after `etcdimg fetch --from source`

    NoOutput, exit 6
    error: migrate for linux/amd64 was compiled, but there is no program

    SourcesChanged, exit 6
    error: the sources of migrate changed while it was compiled
    hint: nothing of it is kept: run the command again

    NoTool, go, exit 6
    error: cannot find the program `go` on PATH
    hint: install Go 1.21 or later; it downloads the exact release of versions.yaml by itself
    hint: or leave out `--from source` to use the release archives

    NoTool, another, exit 6
    error: cannot find the program `rustc` on PATH
    hint: install Rust from https://rustup.rs

    WrongRust, exit 6
    error: migrate must be compiled with the Rust release of versions.yaml
      expected 1.95.0
      received 1.90.0
    hint: `rustup toolchain install 1.95.0`, then run the command again; `rust:` in versions.yaml names the release

    NoCross, exit 6
    error: cannot compile migrate for s390x-unknown-linux-musl: this machine has neither Rust's standard library for it nor the parts to compile that library
    hint: `cargo xtask cross` downloads both parts that are needed into the cache, for every platform
    hint: by hand: `rustup component add rust-src`, and zig 0.17.0 with cargo-zigbuild on PATH (`pip install ziglang==0.17.0 cargo-zigbuild`)
    hint: or use `--builder buildx`, if a Docker engine is running
    hint: or, if the program may have other bytes: `rustup target add s390x-unknown-linux-musl`, and a C compiler for it on PATH

    WrongModule, exit 3
    error: the Go module sources/3.6.14 is not the locked one: go.sum differs
      expected 1.95.0
      received 1.90.0
    hint: run `etcdimg lock` and review the diff

    WrongToolchain, exit 4
    error: the downloaded Go toolchain 1.25.12 is not the locked one
      expected 1.95.0
      received 1.90.0
    hint: the file was replaced or the lock is wrong: find out which before you change the lock

    NoToolchain, exit 3
    error: etcdimg.lock has no Go toolchain 1.25.12 for linux-amd64
    hint: run `etcdimg lock` and review the diff

    Io, exit 7
    error: cannot use `/folder/file`
      because: permission denied

    Store, exit 7
    error: cannot write `/folder/file`
      because: permission denied
    ");
}

#[test]
fn builds_and_engines() {
    let archive = ArchiveError::Missing { archive: text("etcd.tar.gz"), entry: text("etcd") };
    let program = WrongProgram {
        name: text("etcd-3.7.1"),
        platform: text("linux/amd64"),
        what: "commit",
        expected: text("0123"),
        received: text("4567"),
    };
    let no_tool = CompileError::NoTool { tool: text("go") };
    let no_base = BaseError::NoWindows { base: text("nanoserver") };
    let engine_archive = EngineError::Archive(denied());
    let rows = vec![
        ("Offline", BuildError::Offline(text("etcd.tar.gz")).into()),
        ("NoProgram", BuildError::NoProgram(text("usr/local/bin/etcd")).into()),
        ("WrongProgram", BuildError::WrongProgram(vec![program]).into()),
        ("Archive", BuildError::Archive(archive).into()),
        ("Fetch", BuildError::Fetch(wrong_digest()).into()),
        ("Compile", BuildError::Compile(no_tool).into()),
        ("Layer", BuildError::Layer(LayerError::Io(full())).into()),
        ("Base", BuildError::Base(no_base).into()),
        (
            "Layout",
            BuildError::Layout(LayoutError::WrongBlob { digest: expected(), actual: received() })
                .into(),
        ),
        ("Store", BuildError::Store(StoreError::Missing(expected())).into()),
        ("EngineError", engine_archive.into()),
    ];
    insta::assert_snapshot!(table(rows), @"
    Offline, exit 5
    error: `etcd.tar.gz` is not in the cache, and --offline is set
    hint: run `etcdimg fetch` without `--offline`

    NoProgram, exit 1
    error: the plan has `/usr/local/bin/etcd`, but its source has no such program

    WrongProgram, exit 4
    error: `etcd-3.7.1` for linux/amd64 is not the program that the plan describes: wrong commit
      expected 0123
      received 4567
    hint: nothing was written; compare `commit` and `go` in versions.yaml with the release of the etcd project

    Archive, exit 4
    error: `etcd.tar.gz` has no `etcd`
    hint: the file was replaced or the lock is wrong: find out which before you change the lock

    Fetch, exit 4
    error: cannot fetch `etcd.tar.gz`
      https://mirror: wrong digest
        expected sha256:EXPECTED
        received sha256:RECEIVED, after 2 attempts
    hint: the file was replaced or the lock is wrong: find out which before you change the lock

    Compile, exit 6
    error: cannot find the program `go` on PATH
    hint: install Go 1.21 or later; it downloads the exact release of versions.yaml by itself
    hint: or leave out `--from source` to use the release archives

    Layer, exit 7
    error: cannot write a layer
      because: no storage space
    hint: free space with `etcdimg cache gc`, or use another disk with `--cache-dir`

    Base, exit 4
    error: the base nanoserver has no os.version in its config, so the Windows that runs it is unknown
    hint: use an image of Nano Server: `--base NAME=REPOSITORY@DIGEST`

    Layout, exit 4
    error: the blob sha256:EXPECTED is not what its name says
      expected sha256:EXPECTED
      received sha256:RECEIVED

    Store, exit 5
    error: the cache has no sha256:EXPECTED
    hint: run `etcdimg fetch` without `--offline`

    EngineError, exit 5
    error: cannot write the archive for the Docker engine
      because: permission denied
    hint: start a Docker engine, or give its address in DOCKER_HOST
    hint: or use `--output docker-archive:FILE`, and `docker load -i FILE` later
    ");
}
