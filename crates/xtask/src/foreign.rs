//! Runs the unit tests of `migrate`, and of the crates that it shares with etcdimg, on a big-endian
//! machine.
//!
//! They are compiled like the `migrate` of the image (standard library from rust-src, linked by
//! zig) and run by qemu's user emulation. The first run compiles the standard library.

use crate::command::{Cmd, code, find};
use crate::error::{Result, TaskError};
use crate::{cross, workspace};

/// Modules whose tests start programs, and their files: the emulation may hang when a program with
/// threads forks, and what hangs keeps the locks that other tests wait for.
const PROGRAM_STARTERS: [(&str, &str); 2] = [
    ("run::runner::tests", "crates/migrate/src/run/runner_tests.rs"),
    ("run::subprocess::tests", "crates/migrate/src/run/subprocess.rs"),
];

/// Runs the tests for a triple by a qemu program; by default the one for its architecture.
pub fn test(triple: &str, qemu: Option<&str>) -> Result<()> {
    let architecture = triple.split('-').next().unwrap_or(triple);
    let qemu = qemu.map_or_else(|| format!("qemu-{architecture}-static"), str::to_owned);
    if find(&qemu).is_none() {
        return Err(
            TaskError::new(format!("there is no {qemu}")).hint("apt-get install qemu-user-static")
        );
    }
    let cross::CrossParts { zig, library } = cross::provide()?;
    let cache = workspace::cache()?;
    let name = triple.replace('-', "_").to_uppercase();
    let status = Cmd::new(zig.join("cargo-zigbuild"))
        .without_cargo_run()
        .dir(&workspace::root())
        .env(&format!("CARGO_TARGET_{name}_RUNNER"), &qemu)
        .env("CARGO_TARGET_DIR", cache.join("foreign"))
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            "-Ctarget-feature=+crt-static\u{1f}-Clink-self-contained=no",
        )
        // Stable Rust compiles its standard library only with the first variable, and from the
        // sources that the second one names.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("__CARGO_TESTS_ONLY_SRC_ROOT", &library)
        .env("CARGO_ZIGBUILD_ZIG_PATH", zig.join("zig"))
        .env("CARGO_ZIGBUILD_CACHE_DIR", cache.join("zig"))
        .env("ZIG_GLOBAL_CACHE_DIR", cache.join("zig/global"))
        .env("ZIG_LOCAL_CACHE_DIR", cache.join("zig/local"))
        .args(["test", "--locked", "--quiet", "--target", triple])
        .arg("-Zbuild-std=std,panic_unwind,test")
        .args(["--package=migrate", "--package=etcd-version", "--lib", "--bins", "--"])
        .args(PROGRAM_STARTERS.iter().flat_map(|(module, _)| ["--skip", module]))
        .status()?;
    if status.success() {
        return Ok(());
    }
    Err(TaskError::new(format!("the tests on {triple} failed")).with_code(code(status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_that_start_programs_are_where_the_list_says() {
        for (module, file) in PROGRAM_STARTERS {
            let text = std::fs::read_to_string(workspace::root().join(file)).unwrap();
            assert!(text.contains("#[test]") && text.contains("Command"), "{module}: {file}");
        }
    }
}
