//! What docs/platforms.md says of Windows: layers with two roots, the contract on drive C:, and
//! programs that run. Programs run under wine, where it is installed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;

use etcd_version::facts::FACTS_PATH;
use etcd_version::{BUNDLED_PATH, programs_of};
use oci::Descriptor;

use crate::case::Case;
use crate::container::Ended;
use crate::context::CaseContext;
use crate::error::{CaseError, ensure, same};
use crate::file_entry::FileKind;
use crate::image_under_test::ImageUnderTest;
use crate::runtime::Wine;
use contract::labels::LAYER as LAYER_LABEL;
use contract::paths::{FILES, HIVES};

const BIN: &str = "usr/local/bin";
/// The folder in which manifests of the old image call `migrate`.
const SHORT_BIN: &str = "bin";
const WRAPPER: &str = "migrate-if-needed.bat";

pub fn cases(under_test: &ImageUnderTest) -> Vec<Case> {
    let images = under_test.windows();
    let Some((first, _)) = images.first() else {
        return vec![Case::new("images", "there are images for Windows", |context| {
            let why =
                format!("not applicable: `{}` has no image for Windows", context.under_test.tag);
            Err(CaseError::Skipped(why))
        })];
    };
    let mut cases = Vec::new();
    for (image, version) in images {
        // 10.0.20348.5499: the third number is the build of Windows, the fourth the monthly update.
        let build = version.split('.').nth(2).unwrap_or(version).to_owned();
        let of = |check: fn(&CaseContext<'_>, &ImageUnderTest, &str) -> Result<(), CaseError>| {
            let (image, version) = (image.clone(), version.clone());
            move |context: &CaseContext<'_>| check(context, &open(context, &image)?, &version)
        };
        cases.extend([
            Case::new(format!("layers-{build}"), "every layer has the two roots", of(layers)),
            Case::new(format!("paths-{build}"), "the contract is on drive C:", of(paths)),
            Case::new(
                format!("config-{build}"),
                "os.version, ports, PATH, no entry point",
                of(config),
            ),
        ]);
    }
    let under_wine =
        |check: fn(&CaseContext<'_>, &ImageUnderTest, &Wine<'_>) -> Result<(), CaseError>| {
            let image = first.clone();
            move |context: &CaseContext<'_>| {
                let under_test = open(context, &image)?;
                context.step("make a wine prefix with the image on drive C:");
                let wine = Wine::boot(&under_test, &context.folder("wine")?, context.interrupted)?;
                let wine = wine.map_err(CaseError::Skipped)?;
                check(context, &under_test, &wine)
            }
        };
    cases.extend([
        Case::new(
            "shared-layers",
            "the images of all Windows builds share the layers of etcdimg",
            shared_layers,
        ),
        Case::new("programs", "every program answers with its version", under_wine(programs)),
        Case::new(
            "plan",
            "migrate.exe --plan does not change an empty directory",
            under_wine(plan),
        ),
        Case::new("empty", "an empty directory gets the target version", under_wine(empty)),
        Case::new(
            "wrapper",
            "the wrapper does the same, and returns the exit code",
            under_wine(wrapper),
        ),
    ]);
    cases
}

fn open(context: &CaseContext<'_>, image: &Descriptor) -> Result<ImageUnderTest, CaseError> {
    context.under_test.on_windows(image).map_err(CaseError::failed)
}

fn layers(_: &CaseContext<'_>, under_test: &ImageUnderTest, _: &str) -> Result<(), CaseError> {
    let mut tops: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let read = under_test.each_entry(|layer, entry| {
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let top = path.split('/').next().unwrap_or_default().to_owned();
        tops.entry(layer.unwrap_or_default().to_owned()).or_default().insert(top);
        Ok(())
    });
    read.map_err(CaseError::failed)?;
    let expected = BTreeSet::from([FILES, HIVES].map(str::to_owned));
    for (layer, tops) in &tops {
        ensure(*tops == expected, || {
            format!("the layer `{layer}` has {tops:?} at its top, not {FILES} and {HIVES}")
        })?;
    }
    let versions = under_test.bundled.iter().map(|version| format!("etcd {version}"));
    let wanted: BTreeSet<_> = versions.chain(["migrate".to_owned()]).collect();
    let found: BTreeSet<_> = tops.into_keys().collect();
    ensure(wanted == found, || format!("our layers are {found:?}, not {wanted:?}"))
}

/// Files by their path below `Files`, and hard links with their targets.
fn expected(under_test: &ImageUnderTest) -> (Vec<String>, Vec<(String, String)>) {
    let mut files = vec![format!("{BIN}/migrate.exe"), format!("{BIN}/{WRAPPER}")];
    let mut links: Vec<_> = ["migrate.exe", WRAPPER]
        .map(|it| (format!("{SHORT_BIN}/{it}"), format!("{BIN}/{it}")))
        .into();
    for version in &under_test.bundled {
        for name in programs_of(version) {
            let path = format!("{BIN}/{name}-{version}.exe");
            if version == under_test.newest() {
                links.push((format!("{BIN}/{name}.exe"), path.clone()));
            }
            files.push(path);
        }
    }
    (files, links)
}

fn paths(_: &CaseContext<'_>, under_test: &ImageUnderTest, _: &str) -> Result<(), CaseError> {
    let (files, links) = expected(under_test);
    let links =
        links.into_iter().map(|(path, to)| (path, FileKind::HardLink(format!("{FILES}/{to}"))));
    let files = files.into_iter().map(|path| (path, FileKind::File));
    let mut known =
        BTreeSet::from([BUNDLED_PATH, FACTS_PATH].map(|path| format!("{FILES}/{path}")));
    for (path, kind) in files.chain(links) {
        let path = format!("{FILES}/{path}");
        let found = under_test.files.get(&path);
        let found = found.ok_or_else(|| CaseError::failed(format_args!("there is no {path}")))?;
        ensure(found.kind == kind, || format!("{path} is {:?}, not {kind:?}", found.kind))?;
        ensure((found.mode, found.uid, found.gid) == (0o555, 0, 0), || {
            format!("{path} has the mode {:04o} of {}:{}", found.mode, found.uid, found.gid)
        })?;
        known.insert(path);
    }
    let is_known = |(path, entry): &(&String, &crate::file_entry::FileEntry)| {
        entry.kind == FileKind::Directory || known.contains(*path)
    };
    let extra = under_test.files.iter().find(|it| !is_known(it));
    ensure(extra.is_none(), || {
        format!(
            "there is {}, which is not part of the image contract",
            extra.map_or("", |(path, _)| path.as_str())
        )
    })
}

fn config(
    _: &CaseContext<'_>,
    under_test: &ImageUnderTest,
    version: &str,
) -> Result<(), CaseError> {
    let text = |name: &str| under_test.config[name].as_str().unwrap_or_default();
    same("`os` of the config", "windows", text("os"))?;
    same("`architecture` of the config", "amd64", text("architecture"))?;
    ensure(version.starts_with("10.0."), || format!("os.version of the index is `{version}`"))?;
    same("`os.version` of the config", version, text("os.version"))?;
    let config = &under_test.config["config"];
    for name in ["Entrypoint", "Cmd"] {
        ensure(config[name].is_null(), || format!("{name} is set: {}", config[name]))?;
    }
    let ports = config["ExposedPorts"].as_object().into_iter().flatten();
    let ports: BTreeSet<_> = ports.map(|(port, _)| port.as_str()).collect();
    let ports = ports.into_iter().collect::<Vec<_>>().join(" ");
    same("the list of ports", "2379/tcp 2380/tcp 4001/tcp 7001/tcp", ports.as_str())?;
    let environment = under_test.environment();
    let path = environment.get("PATH").map(String::as_str).unwrap_or_default();
    for folder in [r"C:\usr\local\bin", r"C:\bin"] {
        ensure(path.split(';').any(|it| it == folder), || {
            format!("PATH does not lead to {folder}: `{path}`")
        })?;
    }
    Ok(())
}

fn shared_layers(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let ours = |image: &Descriptor| -> Result<Vec<String>, CaseError> {
        let under_test = open(context, image)?;
        let is_ours = |it: &&Descriptor| it.annotations.contains_key(LAYER_LABEL);
        let layers = under_test.manifest.layers.iter().filter(is_ours);
        Ok(layers.map(|it| it.digest.to_string()).collect())
    };
    let all: Vec<_> = context
        .under_test
        .windows()
        .iter()
        .map(|(image, _)| ours(image))
        .collect::<Result<_, _>>()?;
    ensure(all.windows(2).all(|pair| pair[0] == pair[1]), || {
        "the images for Windows differ in layers of etcdimg".to_owned()
    })
}

fn must(wine: &Wine<'_>, words: &[&str]) -> Result<String, CaseError> {
    let ended = wine.run(words, &BTreeMap::new())?;
    is_good(&ended, words)?;
    Ok(ended.stdout)
}

fn is_good(ended: &Ended, words: &[&str]) -> Result<(), CaseError> {
    if ended.code == 0 {
        return Ok(());
    }
    Err(CaseError::failed(format_args!("a program failed with exit code {}", ended.code))
        .command(format!("wine {}", words.join(" ")))
        .log(&format!("{}{}", ended.stdout, ended.stderr)))
}

fn programs(
    context: &CaseContext<'_>,
    under_test: &ImageUnderTest,
    wine: &Wine<'_>,
) -> Result<(), CaseError> {
    let plain = programs_of(under_test.newest())
        .iter()
        .map(|name| (format!(r"C:\usr\local\bin\{name}.exe"), *name, under_test.newest()));
    let versioned = under_test.bundled.iter().flat_map(|version| {
        let path = move |name: &str| format!(r"C:\usr\local\bin\{name}-{version}.exe");
        programs_of(version).iter().map(move |name| (path(name), *name, version))
    });
    for (path, name, version) in versioned.chain(plain) {
        context.step(format_args!("ask {path} for its version"));
        let word = if name == "etcd" { "--version" } else { "version" };
        let environment = BTreeMap::from([("ETCDCTL_API".to_owned(), OsString::from("3"))]);
        let words = [path.as_str(), word];
        let ended = wine.run(&words, &environment)?;
        is_good(&ended, &words)?;
        let first = ended.stdout.lines().next().unwrap_or_default().trim_end();
        let received = first.rsplit(' ').next().unwrap_or_default();
        same(&format!("the version that {path} says"), version.to_string().as_str(), received)?;
    }
    let said = must(wine, &[r"C:\bin\migrate.exe", "--version"])?;
    ensure(said.starts_with("etcdimg-migrate "), || format!("migrate.exe says `{said}`"))
}

/// The environment that a manifest gives `migrate`.
fn environment(under_test: &ImageUnderTest) -> BTreeMap<String, OsString> {
    let pairs = [
        ("TARGET_VERSION", under_test.newest().to_string()),
        ("TARGET_STORAGE", "etcd3".to_owned()),
        ("DATA_DIRECTORY", r"C:\data".to_owned()),
        ("ETCD_NAME", "one".to_owned()),
        ("DO_NOT_MOVE_BINARIES", "true".to_owned()),
    ];
    pairs.map(|(name, value)| (name.to_owned(), OsString::from(value))).into()
}

fn plan(
    context: &CaseContext<'_>,
    under_test: &ImageUnderTest,
    wine: &Wine<'_>,
) -> Result<(), CaseError> {
    let data = wine.drive().join("data");
    fs::create_dir(&data)?;
    context.step("migrate.exe --plan");
    let words = [r"C:\usr\local\bin\migrate.exe", "--plan"];
    let ended = wine.run(&words, &environment(under_test))?;
    is_good(&ended, &words)?;
    let said = ended.stdout + &ended.stderr;
    let newest = under_test.newest().to_string();
    ensure(said.contains(&newest), || format!("the plan does not name {newest}: {said}"))?;
    ensure(fs::read_dir(&data)?.next().is_none(), || "a plan wrote into the directory".to_owned())
}

fn empty(
    context: &CaseContext<'_>,
    under_test: &ImageUnderTest,
    wine: &Wine<'_>,
) -> Result<(), CaseError> {
    migrated(context, under_test, wine, &[r"C:\usr\local\bin\migrate.exe"])
}

fn wrapper(
    context: &CaseContext<'_>,
    under_test: &ImageUnderTest,
    wine: &Wine<'_>,
) -> Result<(), CaseError> {
    let words = ["cmd", "/c", r"C:\bin\migrate-if-needed.bat"];
    migrated(context, under_test, wine, &words)?;
    context.step("an unknown flag");
    let ended = wine.run(&[&words[..], &["--no-such-flag"]].concat(), &environment(under_test))?;
    ensure(ended.code == 2, || format!("the exit code is {}, not 2", ended.code))
}

fn migrated(
    context: &CaseContext<'_>,
    under_test: &ImageUnderTest,
    wine: &Wine<'_>,
    words: &[&str],
) -> Result<(), CaseError> {
    let data = wine.drive().join("data");
    fs::create_dir(&data)?;
    for again in ["for the first time", "again"] {
        context.step(format_args!("start it {again}"));
        is_good(&wine.run(words, &environment(under_test))?, words)?;
        let version = fs::read_to_string(data.join("version.txt")).unwrap_or_default();
        same("version.txt", &format!("{}/etcd3", under_test.newest()), &version)?;
    }
    Ok(())
}
