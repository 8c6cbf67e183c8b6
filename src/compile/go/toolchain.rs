//! Go's own releases: a downloaded one has to be the locked one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::super::CompileContext;
use super::super::error::CompileError;
use super::super::options::CompileOptions;
use super::super::scratch::Scratch;
use super::command::Go;
use crate::platform::own_architecture;
use crate::process::Invocation;
use crate::ui::Ui;

/// Makes Go use the toolchain of the plan, and compares the sum of what it downloaded with the
/// lock. A toolchain that is installed on the machine has no sum: it is the user's own choice.
pub(super) fn check(go: &Go<'_>, context: &CompileContext<'_>) -> Result<(), CompileError> {
    let source = go.source();
    let what = format!("etcd {}: there is no Go {}", source.version, source.go);
    let names = ["env", "GOROOT", "GOHOSTOS", "GOHOSTARCH", "GOMODCACHE"];
    let command = go.call(names.map(OsString::from).into());
    let printed = command.output().map_err(context.options.failed(what))?;
    let mut lines = printed.lines().map(str::to_owned);
    let mut next = || lines.next().unwrap_or_default();
    let (root, os, arch, modules) = (next(), next(), next(), next());
    // Links are resolved: a toolchain in a cache behind a link is a downloaded one, too.
    let real = |path: &str| fs::canonicalize(path).unwrap_or_else(|_| path.into());
    if !real(&root).starts_with(real(&modules)) {
        return Ok(());
    }
    let host = format!("{os}-{arch}");
    let sum_file = Path::new(&modules).join(format!(
        "cache/download/golang.org/toolchain/@v/v0.0.1-go{}.{host}.ziphash",
        source.go
    ));
    let received = fs::read_to_string(&sum_file).map_err(CompileError::io(&sum_file))?;
    let Some(locked) = context.lock.toolchain(&source.go, &host) else {
        return Err(CompileError::NoToolchain { go: source.go.clone(), host });
    };
    if received.trim() == locked.sum {
        return Ok(());
    }
    Err(CompileError::WrongToolchain {
        go: source.go.clone(),
        expected: locked.sum.clone(),
        received: received.trim().to_owned(),
    })
}

/// The platform that Go's toolchain runs on, as its module is named: `linux-amd64`.
pub fn go_host() -> String {
    format!("{}-{}", std::env::consts::OS, own_architecture())
}

/// The sum of a toolchain's module (`h1:…`), as Go and its checksum database compute it.
pub fn toolchain_sum(
    options: &CompileOptions,
    go: &str,
    host: &str,
    ui: &Ui,
) -> Result<String, CompileError> {
    let module = format!("golang.org/toolchain@v0.0.1-go{go}.{host}");
    let scratch = Scratch::new(&options.work)?;
    // A toolchain for another host is never started here, so it is not kept.
    let is_own = host == go_host();
    let cache = if is_own { options.work.join("go-mod") } else { scratch.path().join("go-mod") };
    let environment = BTreeMap::from([
        ("GOMODCACHE".to_owned(), cache.into()),
        ("GOFLAGS".to_owned(), "-modcacherw".into()),
        ("GOWORK".to_owned(), "off".into()),
    ]);
    let command = Invocation {
        program: options.find("go")?,
        arguments: ["mod", "download", "-json", &module].map(OsString::from).into(),
        folder: scratch.path().to_owned(),
        passed_on: options.environment.clone(),
        environment,
    };
    ui.command(command.to_string());
    let what = format!("etcd: there is no Go toolchain {go} for {host}");
    let printed = command.output().map_err(CompileError::process(what))?;
    let Download { sum } = serde_json::from_str(&printed).unwrap_or_default();
    if sum.starts_with("h1:") {
        Ok(sum)
    } else {
        Err(CompileError::NoToolchain { go: go.to_owned(), host: host.to_owned() })
    }
}

/// What `go mod download -json` prints.
#[derive(Default, serde::Deserialize)]
struct Download {
    #[serde(rename = "Sum", default)]
    sum: String,
}
