//! The image's contract (docs/image.md), path by path. Runs nothing.
//!
//! Paths, modes and ports are repeated here on purpose. The build and `etcdimg verify` take them
//! from the crate `contract`; if they are changed there by mistake, this suite fails. Names of
//! labels are those of `contract`, and what differs between versions of etcd is
//! `etcd_version`'s.

use std::collections::{BTreeMap, BTreeSet};

use contract::{EtcdOrigin, labels as contract_labels};
use etcd_version::facts::FACTS_PATH;
use etcd_version::{BUNDLED_PATH, EtcdVersion, programs_of, supports_architecture};

use crate::case::Case;
use crate::context::CaseContext;
use crate::error::{CaseError, ensure, same};
use crate::file_entry::{FileEntry, FileKind};
use crate::image_under_test::ImageUnderTest;
use crate::sizes::Sizes;
use contract::labels::LAYER as LAYER_LABEL;

const BIN: &str = "usr/local/bin";
const PORTS: [&str; 4] = ["2379/tcp", "2380/tcp", "4001/tcp", "7001/tcp"];

/// What a part may grow from one release to the next, in percent.
const GROWTH: u64 = 10;

pub fn cases(under_test: &ImageUnderTest) -> Vec<Case> {
    let size = Case::new("size", "no part is much larger than in the other image", size);
    let size = under_test.against.is_some().then_some(size);
    let fixed = vec![
        Case::new(
            "verify",
            "every digest, size, platform and program is as the documents say",
            verified,
        ),
        Case::new("paths", "every program is there, has the mode 0555 and belongs to root", paths),
        Case::new("plain-names", "the plain names are links to the last version", plain_names),
        Case::new("bundled-file", "the list of versions names the programs that are there", listed),
        Case::new(
            "nothing-extra",
            "the layers of etcdimg contain the contract and nothing else",
            nothing_extra,
        ),
        Case::new("no-privileges", "nothing is setuid or writable for everyone", no_privileges),
        Case::new("config", "ports, working directory, no entry point, environment", config),
        Case::new("labels", "the labels say what is bundled and from where", labels),
        Case::new("layers", "a layer for each version, migrate last", layers),
    ];
    fixed.into_iter().chain(size).collect()
}

fn verified(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let faults = context.verify()?;
    ensure(faults.is_empty(), || format!("`etcdimg verify` finds {}", faults.join("; ")))
}

/// The programs of all versions, `migrate` and its wrapper.
fn programs(under_test: &ImageUnderTest) -> Vec<String> {
    let mut paths = vec![format!("{BIN}/migrate"), format!("{BIN}/migrate-if-needed.sh")];
    for version in &under_test.bundled {
        paths.extend(programs_of(version).iter().map(|name| format!("{BIN}/{name}-{version}")));
    }
    paths
}

fn plain() -> [String; 3] {
    ["etcd", "etcdctl", "etcdutl"].map(|name| format!("{BIN}/{name}"))
}

fn entry<'a>(under_test: &'a ImageUnderTest, path: &str) -> Result<&'a FileEntry, CaseError> {
    under_test.files.get(path).ok_or_else(|| CaseError::failed(format_args!("there is no /{path}")))
}

fn is_roots(path: &str, entry: &FileEntry, mode: u32) -> Result<(), CaseError> {
    ensure((entry.uid, entry.gid) == (0, 0), || {
        format!("/{path} belongs to {}:{}, not to root", entry.uid, entry.gid)
    })?;
    ensure(entry.mode == mode, || {
        format!("the mode of /{path} is {:04o}, not {mode:04o}", entry.mode)
    })
}

fn paths(context: &CaseContext<'_>) -> Result<(), CaseError> {
    for path in programs(context.under_test) {
        let found = entry(context.under_test, &path)?;
        ensure(found.kind == FileKind::File, || format!("/{path} is not a plain file"))?;
        is_roots(&path, found, 0o555)?;
    }
    let shell =
        context.under_test.files.keys().any(|path| path == "bin/sh" || path == "usr/bin/sh");
    ensure(shell, || "there is no /bin/sh".to_owned())
}

fn plain_names(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let newest = context.under_test.newest();
    for path in plain() {
        let found = entry(context.under_test, &path)?;
        let expected = FileKind::HardLink(format!("{path}-{newest}"));
        ensure(found.kind == expected, || {
            format!("/{path} is not a hard link to /{path}-{newest}, but {:?}", found.kind)
        })?;
        is_roots(&path, found, 0o555)?;
    }
    Ok(())
}

fn listed(context: &CaseContext<'_>) -> Result<(), CaseError> {
    is_roots(BUNDLED_PATH, entry(context.under_test, BUNDLED_PATH)?, 0o444)?;
    let prefix = format!("{BIN}/etcd-");
    let there = context.under_test.files.keys().filter_map(|path| path.strip_prefix(&prefix));
    let there: BTreeSet<_> = there.map(str::to_owned).collect();
    let listed: BTreeSet<_> = context.under_test.bundled.iter().map(ToString::to_string).collect();
    let join = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
    same("the list of bundled versions", &join(&there), &join(&listed))
}

fn nothing_extra(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let mut known: BTreeSet<String> =
        programs(context.under_test).into_iter().chain(plain()).collect();
    known.extend([BUNDLED_PATH, FACTS_PATH].map(str::to_owned));
    for (path, entry) in &context.under_test.files {
        let Some(layer) = &entry.layer else { continue };
        let is_known = match entry.kind {
            FileKind::Directory => known.iter().any(|it| it.starts_with(&format!("{path}/"))),
            _ => known.contains(path),
        };
        ensure(is_known, || {
            format!("the layer `{layer}` contains /{path}, which is not part of the image contract")
        })?;
        if entry.kind == FileKind::Directory {
            is_roots(path, entry, 0o755)?;
        }
    }
    Ok(())
}

fn no_privileges(context: &CaseContext<'_>) -> Result<(), CaseError> {
    for (path, entry) in &context.under_test.files {
        if matches!(entry.kind, FileKind::SymbolicLink(_)) {
            continue;
        }
        ensure(entry.mode & 0o6000 == 0, || format!("/{path} is setuid or setgid"))?;
        // A folder that everyone may write to needs the sticky bit: users cannot remove the
        // files of others.
        let is_shared = entry.kind == FileKind::Directory && entry.mode & 0o1000 != 0;
        ensure(entry.mode & 0o002 == 0 || is_shared, || format!("everyone may write /{path}"))?;
    }
    Ok(())
}

fn config(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let config = &context.under_test.config["config"];
    let ports = config["ExposedPorts"].as_object().into_iter().flatten();
    let ports: BTreeSet<_> = ports.map(|(port, _)| port.as_str()).collect();
    let ports: Vec<_> = ports.into_iter().collect();
    same("the list of ports", PORTS.join(" ").as_str(), ports.join(" ").as_str())?;
    same("the working directory", "/", config["WorkingDir"].as_str().unwrap_or_default())?;
    for name in ["Entrypoint", "Cmd"] {
        ensure(config[name].is_null(), || format!("{name} is set: {}", config[name]))?;
    }
    let user = config["User"].as_str().unwrap_or_default();
    ensure(user.is_empty(), || format!("User is set: {user}"))?;
    let mut environment = context.under_test.environment();
    // The base decides about the rest of PATH.
    let path = environment.remove("PATH").unwrap_or_default();
    ensure(path.split(':').any(|it| it == "/usr/local/bin"), || {
        format!("PATH does not lead to /usr/local/bin: `{path}`")
    })?;
    let join = |all: BTreeMap<String, String>| {
        all.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    let architecture = context.under_test.platform.architecture.as_str();
    let expected = expected_environment(architecture, context.under_test.newest());
    same("the environment beside PATH", &join(expected), &join(environment))?;
    let platform = &context.under_test.platform;
    for (name, expected) in [
        ("os", Some(&platform.os)),
        ("architecture", Some(&platform.architecture)),
        ("variant", platform.variant.as_ref()),
    ] {
        let expected = expected.map(String::as_str).unwrap_or_default();
        let received = context.under_test.config[name].as_str().unwrap_or_default();
        same(&format!("`{name}` of the config"), expected, received)?;
    }
    Ok(())
}

/// Servers read every `ETCD_…` as a flag, so there must be no other variable. On an architecture
/// that etcd does not support it starts only with this one (etcd, server/etcdmain/etcd.go,
/// checkSupportArch).
fn expected_environment(architecture: &str, newest: &EtcdVersion) -> BTreeMap<String, String> {
    let variable = ("ETCD_UNSUPPORTED_ARCH".to_owned(), architecture.to_owned());
    (!supports_architecture(newest, architecture)).then_some(variable).into_iter().collect()
}

fn labels(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let under_test = context.under_test;
    let label = |name: &str| under_test.label(name).unwrap_or_default();
    let versions: Vec<_> = under_test.bundled.iter().map(ToString::to_string).collect();
    let bundled = contract_labels::BUNDLED_VERSIONS;
    same(&format!("the label `{bundled}`"), versions.join(",").as_str(), label(bundled))?;
    for version in &versions {
        let name = contract_labels::etcd(version);
        let text = label(&name);
        ensure(text.parse::<EtcdOrigin>().is_ok(), || {
            format!("the label `{name}` does not say commit and origin: `{text}`")
        })?;
    }
    for name in [contract_labels::BASE, contract_labels::FORMAT, contract_labels::MIGRATE] {
        ensure(!label(name).is_empty(), || format!("there is no label `{name}`"))?;
    }
    let newest = under_test.newest().to_string();
    let version = label(contract_labels::standard::VERSION);
    let etcd = version.rsplit_once('-').map_or(version, |(etcd, _)| etcd);
    same(
        &format!("the version of etcd in `{}`", contract_labels::standard::VERSION),
        newest.as_str(),
        etcd,
    )
}

fn layers(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let names = context
        .under_test
        .manifest
        .layers
        .iter()
        .filter_map(|layer| layer.annotations.get(LAYER_LABEL).cloned());
    let versions = context.under_test.bundled.iter().map(|version| format!("etcd {version}"));
    let expected: Vec<_> = versions.chain(["migrate".to_owned()]).collect();
    same("the list of our layers", &expected.join(", "), &names.collect::<Vec<_>>().join(", "))?;
    context.note(format_args!(
        "{} compressed",
        oci::document::size_text(context.under_test.size_bytes)
    ));
    Ok(())
}

/// A new part does not count as growth: it was added on purpose.
fn size(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let Some(against) = &context.under_test.against else { return Ok(()) };
    let now = Sizes::of(context.under_test.tag.clone(), &context.under_test.manifest);
    let shown = oci::document::size_text;
    context.note(format_args!(
        "{}, and {} in {}",
        shown(now.total_bytes),
        shown(against.total_bytes),
        against.tag
    ));
    for (part, bytes) in &now.parts {
        let Some(before) = against.parts.get(part) else {
            context.note(format_args!("{part} is new: {}", shown(*bytes)));
            continue;
        };
        ensure(bytes.saturating_mul(100) <= before.saturating_mul(100 + GROWTH), || {
            let (now, before) = (shown(*bytes), shown(*before));
            format!(
                "{part} takes {now}, and {before} in {}: more than {GROWTH} % more",
                against.tag
            )
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_architectures_without_support_have_the_variable() {
        for (architecture, version, expected) in [
            ("amd64", "3.4.21", None),
            ("arm64", "3.4.21", Some("arm64")),
            ("arm64", "3.7.1", None),
            ("s390x", "3.5.33", None),
            ("arm", "3.7.1", Some("arm")),
            ("riscv64", "3.7.1", Some("riscv64")),
        ] {
            let environment = expected_environment(architecture, &version.parse().unwrap());
            let value = environment.get("ETCD_UNSUPPORTED_ARCH").map(String::as_str);
            assert_eq!(value, expected, "{architecture} {version}");
        }
    }
}
