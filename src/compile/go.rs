use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::Compiled;
use super::buildx::{Build, Buildx, CACHE, ROOT, Step, dockerfile};
use super::tool::{CompileError, Network, Toolchains, keep};
use crate::catalog::Lock;
use crate::digest::Digest;
use crate::plan::ModulesSource;
use crate::platform::own_architecture;
use crate::process::Invocation;
use crate::store::Store;
use crate::ui::Ui;

/// Part of the key of every compile: another number compiles everything again.
const RECIPE: &str = "go 1";

/// Compiles the programs of one version, or finds them in the store.
pub fn compile_etcd(
    store: &Store,
    tools: &Toolchains,
    lock: &Lock,
    source: &ModulesSource,
    ui: &Ui,
) -> Result<Vec<Compiled>, CompileError> {
    let key = key(source);
    if let Some(compiled) = cached(store, &key) {
        return Ok(compiled);
    }
    // A second process waits here and then finds the work done.
    let _guard = store.lock(&key.hex())?;
    if let Some(compiled) = cached(store, &key) {
        return Ok(compiled);
    }
    check_module(tools, source)?;
    let compiled = match tools.buildx(ui) {
        None => {
            check_toolchain(tools, lock, source)?;
            let each = programs(source)
                .map(|(name, package)| compile(store, tools, source, name, &package, ui));
            each.collect::<Result<Vec<_>, _>>()?
        }
        Some(buildx) => compile_in(buildx, store, tools, lock, source, ui)?,
    };
    store.put_record("compile", &key, &compiled)?;
    Ok(compiled)
}

fn cached(store: &Store, key: &Digest) -> Option<Vec<Compiled>> {
    let compiled: Vec<Compiled> = store.record("compile", key)?;
    compiled.iter().all(|program| store.has(&program.digest)).then_some(compiled)
}

/// Everything that decides the bytes of the programs.
fn key(source: &ModulesSource) -> Digest {
    Digest::of(format!(
        "{RECIPE}\n{}\n{}\n{}\n{}\n{}\n{} {} {:?}\n",
        source.version,
        source.go,
        source.commit,
        source.go_mod,
        source.go_sum,
        source.goos,
        source.goarch,
        source.goarm
    ))
}

/// The module on disk must be the locked one.
fn check_module(tools: &Toolchains, source: &ModulesSource) -> Result<(), CompileError> {
    let folder = folder(tools, source);
    for (file, expected) in [("go.mod", source.go_mod), ("go.sum", source.go_sum)] {
        let path = folder.join(file);
        let received = Digest::of(fs::read(&path).map_err(CompileError::io(&path))?);
        if received != expected {
            return Err(CompileError::WrongModule {
                version: source.version.to_string(),
                file,
                expected: expected.to_string(),
                received: received.to_string(),
            });
        }
    }
    Ok(())
}

/// Brings toolchain and modules into Go's own cache, where go.sum is enforced.
pub fn download_modules(
    tools: &Toolchains,
    lock: &Lock,
    source: &ModulesSource,
    ui: &Ui,
) -> Result<(), CompileError> {
    check_module(tools, source)?;
    check_toolchain(tools, lock, source)?;
    let command = invocation(tools, source, vec!["mod".into(), "download".into()])?;
    ui.command(command.to_string());
    let log = tools.log(&format!("go-mod-download-{}", source.version))?;
    let what = format!("etcd {}: its modules are missing", source.version);
    command.run(&log).map_err(tools.failed(what))
}

/// Asks Go for the toolchain of the plan, and compares the sum of what it downloaded.
/// A toolchain that is installed on the machine has no sum; it is the person's own choice.
fn check_toolchain(
    tools: &Toolchains,
    lock: &Lock,
    source: &ModulesSource,
) -> Result<(), CompileError> {
    let what = || format!("etcd {}: there is no Go {}", source.version, source.go);
    let ask = invocation(
        tools,
        source,
        vec![
            "env".into(),
            "GOROOT".into(),
            "GOHOSTOS".into(),
            "GOHOSTARCH".into(),
            "GOMODCACHE".into(),
        ],
    )?;
    let answer = ask.output().map_err(tools.failed(what()))?;
    let mut lines = answer.lines().map(str::to_owned);
    let mut next = || lines.next().unwrap_or_default();
    let (root, os, arch, modules) = (next(), next(), next(), next());
    // Through links, or a cache behind one would go unchecked.
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
    let Some(locked) = lock.toolchain(&source.go, &host) else {
        return Err(CompileError::NoToolchain { go: source.go.clone(), host });
    };
    if received.trim() != locked.sum {
        let received = received.trim().to_owned();
        return Err(CompileError::WrongToolchain {
            go: source.go.clone(),
            expected: locked.sum.clone(),
            received,
        });
    }
    Ok(())
}

/// Where Go's toolchain runs, as its module is named: `linux-amd64`.
pub fn host() -> String {
    format!("{}-{}", std::env::consts::OS, own_architecture())
}

/// The sum of a toolchain's module, as Go and its checksum database see it.
pub fn toolchain_sum(
    tools: &Toolchains,
    go: &str,
    host: &str,
    ui: &Ui,
) -> Result<String, CompileError> {
    let module = format!("golang.org/toolchain@v0.0.1-go{go}.{host}");
    let scratch = tools.scratch()?;
    // Nothing here ever starts what is for another host.
    let is_own = host == self::host();
    let cache = if is_own { tools.work.join("go-mod") } else { scratch.path().join("go-mod") };
    let environment = BTreeMap::from([
        ("GOMODCACHE".to_owned(), cache.into()),
        ("GOFLAGS".to_owned(), "-modcacherw".into()),
        ("GOWORK".to_owned(), "off".into()),
    ]);
    let command = Invocation {
        program: tools.find("go")?,
        arguments: ["mod", "download", "-json", &module].map(OsString::from).into(),
        folder: scratch.path().to_owned(),
        passed_on: tools.environment.clone(),
        environment,
    };
    ui.command(command.to_string());
    let what = format!("etcd: there is no Go toolchain {go} for {host}");
    let answer =
        command.output().map_err(|source| CompileError::Process { what: what.clone(), source })?;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
    let received = answer["Sum"].as_str().unwrap_or_default().to_owned();
    if received.starts_with("h1:") {
        Ok(received)
    } else {
        Err(CompileError::NoToolchain { go: go.to_owned(), host: host.to_owned() })
    }
}

fn compile(
    store: &Store,
    tools: &Toolchains,
    source: &ModulesSource,
    name: &str,
    package: &str,
    ui: &Ui,
) -> Result<Compiled, CompileError> {
    let scratch = tools.scratch()?;
    let out = scratch.path().join(name);
    let mut arguments = arguments(source, package, &out);
    arguments.insert(1, format!("-p={}", tools.jobs).into());
    let command = invocation(tools, source, arguments)?;
    ui.command(command.to_string());
    let log = tools.log(&format!("{name}-{}-{}-{}", source.version, source.goos, source.goarch))?;
    let what = format!("{name} {} for {}/{}", source.version, source.goos, source.goarch);
    command.run(&log).map_err(tools.failed(what.clone()))?;
    let compiled = keep(store, name, &out)?;
    ui.status("Compiled", format!("{what} {}", crate::ui::size(compiled.size)));
    Ok(compiled)
}

fn arguments(source: &ModulesSource, package: &str, out: &Path) -> Vec<OsString> {
    let flags = format!("-ldflags={}", linker_flags(source));
    let mut arguments: Vec<OsString> =
        ["build", "-trimpath", "-installsuffix=cgo", &flags, "-o"].map(OsString::from).into();
    arguments.extend([out.into(), package.into()]);
    if knows_vcs(source) {
        // The repository around the module is ours, not etcd's.
        arguments.insert(1, "-buildvcs=false".into());
    }
    arguments
}

/// All programs of one version by one run of buildx.
fn compile_in(
    buildx: &Buildx,
    store: &Store,
    tools: &Toolchains,
    lock: &Lock,
    source: &ModulesSource,
    ui: &Ui,
) -> Result<Vec<Compiled>, CompileError> {
    let version = &source.version;
    let platform = match &source.goarm {
        Some(goarm) => format!("{}/{}/v{goarm}", source.goos, source.goarch),
        None => format!("{}/{}", source.goos, source.goarch),
    };
    let inputs = ["go.mod", "go.sum"].map(|name| format!("sources/{version}/{name}"));
    let folder = Path::new(ROOT).join(format!("sources/{version}"));
    let call = |arguments: Vec<OsString>, network| {
        Step::Compiler(Invocation {
            program: "go".into(),
            arguments,
            folder: folder.clone(),
            passed_on: BTreeMap::new(),
            environment: environment(Path::new(CACHE), network, source),
        })
    };
    let fetch = [
        Step::Copy(inputs.to_vec()),
        Step::Comment("Modules, which go.sum pins, and the Go release, whose sum is locked."),
        call(vec!["mod".into(), "download".into()], Network::Allowed),
        Step::Shell(check_sum(lock, &source.go)),
    ];
    let programs: Vec<_> = programs(source).collect();
    let compile: Vec<_> = programs
        .iter()
        .map(|(name, package)| {
            let out = Path::new("/out").join(name);
            let mut arguments = arguments(source, package, &out);
            if !buildx.has_own_cores() {
                arguments.insert(1, format!("-p={}", tools.jobs).into());
            }
            call(arguments, Network::Forbidden)
        })
        .collect();
    let what = format!("etcd {version} for {platform}");
    let caches = [("etcdimg-go-build", "/opt/etcdimg/go-build")];
    let build = Build {
        what: format!("etcd {version}"),
        log: format!("buildx-etcd-{version}-{}", platform.replace('/', "-")),
        dockerfile: dockerfile(&what, &buildx.image, &caches, &fetch, &compile),
        platform,
        inputs: inputs.into(),
        written: None,
    };
    let scratch = tools.scratch()?;
    let out = buildx.run(tools, &build, scratch.path(), ui)?;
    let keep = |(name, _): &(&str, String)| {
        let compiled = keep(store, name, &out.join(name))?;
        let size = crate::ui::size(compiled.size);
        ui.status("Compiled", format!("{name} {version} for {} {size}", build.platform));
        Ok(compiled)
    };
    programs.iter().map(keep).collect()
}

/// A Go release that was fetched has to be a locked one; one of the image is pinned by the image.
fn check_sum(lock: &Lock, go: &str) -> String {
    let locked: Vec<_> = lock.toolchains.iter().filter(|it| it.go == go).collect();
    let sums: Vec<_> = locked.iter().map(|it| format!(" -e '{}'", it.sum)).collect();
    let sums = sums.concat();
    format!(
        "for sum in {CACHE}/go-mod/cache/download/golang.org/toolchain/@v/v0.0.1-go{go}.*.ziphash; do \\\n    \
         [ ! -e \"$sum\" ] || grep -qxF{sums} \"$sum\" || {{ echo 'Go {go} is not a locked one: see etcdimg lock --go-host' >&2; exit 1; }}; \\\n    \
         done"
    )
}

/// Go stamps the repository into programs since 1.18, and has the flag against it since then.
fn knows_vcs(source: &ModulesSource) -> bool {
    let minor = source.go.split('.').nth(1).and_then(|minor| minor.parse().ok());
    minor.is_some_and(|minor: u32| minor >= 18)
}

/// As etcd's release build: stripped, and the commit in its version symbol.
fn linker_flags(source: &ModulesSource) -> String {
    let is_3_4 = source.version.minor() <= 4;
    let strip = if is_3_4 { "-s" } else { "-s -w" };
    let symbol = if is_3_4 {
        "go.etcd.io/etcd/version.GitSHA"
    } else {
        "go.etcd.io/etcd/api/v3/version.GitSHA"
    };
    format!("{strip} -X={symbol}={}", &source.commit[..7])
}

fn programs(source: &ModulesSource) -> impl Iterator<Item = (&'static str, String)> {
    let is_3_4 = source.version.minor() <= 4;
    let names: &[&str] =
        if is_3_4 { &["etcd", "etcdctl"] } else { &["etcd", "etcdctl", "etcdutl"] };
    names.iter().map(move |name| {
        let package = match (is_3_4, *name) {
            (true, "etcd") => "go.etcd.io/etcd".to_owned(),
            (true, name) => format!("go.etcd.io/etcd/{name}"),
            (false, "etcd") => "go.etcd.io/etcd/server/v3".to_owned(),
            (false, name) => format!("go.etcd.io/etcd/{name}/v3"),
        };
        (*name, package)
    })
}

fn folder(tools: &Toolchains, source: &ModulesSource) -> PathBuf {
    tools.root.join("sources").join(source.version.to_string())
}

/// `go` on this machine.
fn invocation(
    tools: &Toolchains,
    source: &ModulesSource,
    arguments: Vec<OsString>,
) -> Result<Invocation, CompileError> {
    let program = tools.find("go")?;
    let passed_on = sources_of_modules(tools, &program)?;
    let environment = environment(&tools.work, tools.network, source);
    Ok(Invocation { program, arguments, folder: folder(tools, source), passed_on, environment })
}

/// The same on every machine, but for where the caches are.
fn environment(
    work: &Path,
    network: Network,
    source: &ModulesSource,
) -> BTreeMap<String, OsString> {
    let mut environment = BTreeMap::new();
    let mut set = |name: &str, value: OsString| environment.insert(name.to_owned(), value);
    for (name, folder) in [("GOMODCACHE", "go-mod"), ("GOCACHE", "go-build")] {
        set(name, work.join(folder).into());
    }
    for (name, value) in [
        ("GOFLAGS", "-mod=readonly"),
        ("CGO_ENABLED", "0"),
        ("GOWORK", "off"),
        ("GOENV", "off"),
        ("GOAMD64", "v1"),
        ("GOARM64", "v8.0"),
        ("GOPPC64", "power8"),
        ("GORISCV64", "rva20u64"),
    ] {
        set(name, value.into());
    }
    set("GOTOOLCHAIN", format!("go{}", source.go).into());
    set("GOOS", source.goos.clone().into());
    set("GOARCH", source.goarch.clone().into());
    if let Some(goarm) = &source.goarm {
        set("GOARM", goarm.into());
    }
    if network == Network::Forbidden {
        set("GOPROXY", "off".into());
    }
    environment
}

/// What `go env -w` wrote must not decide bytes, so the programs are compiled without it
/// (`GOENV=off`); but where modules come from is the person's choice, wherever it is written.
fn sources_of_modules(
    tools: &Toolchains,
    program: &Path,
) -> Result<BTreeMap<String, OsString>, CompileError> {
    const NAMES: [&str; 6] =
        ["GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GONOPROXY", "GOINSECURE"];
    let ask = Invocation {
        program: program.to_owned(),
        arguments: ["env"].iter().chain(&NAMES).map(OsString::from).collect(),
        folder: tools.work.clone(),
        passed_on: tools.environment.clone(),
        environment: BTreeMap::from([("GOTOOLCHAIN".to_owned(), "local".into())]),
    };
    let what = "etcd: `go env` does not answer".to_owned();
    let answer = ask.output().map_err(|source| CompileError::Process { what, source })?;
    let values = NAMES.iter().zip(answer.lines()).filter(|(_, value)| !value.is_empty());
    let values = values.map(|(name, value)| ((*name).to_owned(), value.into()));
    Ok(tools.environment.clone().into_iter().chain(values).collect())
}
