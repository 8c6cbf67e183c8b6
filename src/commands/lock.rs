use std::collections::BTreeSet;
use std::io::Write as _;

use super::access;
use super::context::{Context, runtime};
use crate::catalog::lock::{BaseLock, Lock, ReleaseLock, SourceLock, ToolchainLock};
use crate::catalog::{Catalog, LOCK_FILE};
use crate::cli::LockArgs;
use crate::compile;
use crate::failure::{Failure, Kind};
use crate::lookup::Lookup;
use crate::replace::replace;

pub(super) fn run(context: &Context, arguments: &LockArgs) -> Result<(), Failure> {
    if arguments.check {
        context.locked()?;
        context.ui.status("Fresh", LOCK_FILE);
        return Ok(());
    }
    let (catalog, text) = context.catalog()?;
    // What cannot be read as a lock is written anew; what can keeps its digests.
    let known = text.as_deref().and_then(|text| crate::catalog::lock::parse_known(text).ok());
    let lock = make(context, arguments, &catalog, known.as_ref())?;
    let text_now = lock.to_yaml();
    if text.as_deref() == Some(&text_now) {
        context.ui.status("Unchanged", LOCK_FILE);
        return Ok(());
    }
    replace(&context.root().join(LOCK_FILE), |file| file.write_all(text_now.as_bytes()))
        .map_err(|error| Failure::new(Kind::Io, error))?;
    context.ui.status("Locked", format!("{LOCK_FILE}; review its diff"));
    Ok(())
}

fn make(
    context: &Context,
    arguments: &LockArgs,
    catalog: &Catalog,
    known: Option<&Lock>,
) -> Result<Lock, Failure> {
    let (options, runtime) = (access::fetch_options(&arguments.trust)?, runtime()?);
    let registries = access::base_registries(context, &options)?;
    let lookup = Lookup::new(&options, &registries);
    let ask = |what: String| {
        let failure = Failure::new(
            Kind::Unavailable,
            format!("{what} is not in {LOCK_FILE}, and --offline forbids to ask"),
        );
        if context.is_offline { Err(failure) } else { Ok(()) }
    };
    let known = known.filter(|_| !arguments.refresh);
    let mut releases = Vec::new();
    for (version, file) in catalog.releases() {
        let locked = known.and_then(|lock| lock.release(&file)).cloned();
        releases.push(if let Some(release) = locked {
            release
        } else {
            ask(file.clone())?;
            let mirrors = arguments.mirror.iter().chain(&catalog.versions.mirrors);
            let (digest, size) = runtime.block_on(lookup.release(mirrors, &version, &file))?;
            context.ui.status("Looked up", format!("{file} {digest}"));
            ReleaseLock::new(file, digest, size)
        });
    }
    let mut bases = Vec::new();
    for (name, reference) in &catalog.versions.bases {
        let platforms: Vec<_> = catalog
            .targets
            .iter()
            .filter(|it| it.base == *name)
            .map(|it| it.platform.clone())
            .collect();
        let locked = known
            .and_then(|lock| lock.base(name))
            .filter(|base| platforms.iter().all(|it| base.manifest(it).is_some()));
        bases.push(if let Some(base) = locked {
            base.clone()
        } else {
            ask(reference.clone())?;
            let (index, manifests) = runtime.block_on(lookup.base(reference, &platforms))?;
            context.ui.status("Looked up", format!("{reference} {index}"));
            BaseLock::new(name.clone(), index, manifests)
        });
    }
    Ok(Lock {
        catalog: catalog.digest(),
        releases,
        sources: sources(catalog)?,
        toolchains: toolchains(context, arguments, catalog, known)?,
        bases,
    })
}

/// The modules are part of the repository: their digests are those of the files.
fn sources(catalog: &Catalog) -> Result<Vec<SourceLock>, Failure> {
    let source = |version: &etcd_version::EtcdVersion| {
        let (go_mod, go_sum) = catalog.sources.get(&version.to_string()).ok_or_else(|| {
            Failure::new(Kind::Catalog, format!("there is no folder sources/{version}"))
                .hint("docs/sources.md says how to make the Go module of a version")
        })?;
        Ok(SourceLock::new(version.clone(), *go_mod, *go_sum))
    };
    catalog.versions.bundled.iter().map(|etcd| source(&etcd.version)).collect()
}

/// Sums of other hosts stay; the ones of this host, and of those that somebody named, are asked for
/// where they are missing.
fn toolchains(
    context: &Context,
    arguments: &LockArgs,
    catalog: &Catalog,
    known: Option<&Lock>,
) -> Result<Vec<ToolchainLock>, Failure> {
    let options = context.compile_options();
    let mut releases: Vec<_> =
        catalog.versions.bundled.iter().map(|etcd| etcd.go.clone()).collect();
    releases.sort();
    releases.dedup();
    let mut hosts = BTreeSet::from([compile::go_host()]);
    hosts.extend(arguments.go_host.iter().cloned());
    let mut locks: Vec<_> = known.map(|lock| lock.toolchains.clone()).unwrap_or_default();
    locks.retain(|lock| releases.contains(&lock.go));
    for (go, host) in releases.iter().flat_map(|go| hosts.iter().map(move |host| (go, host))) {
        if !locks.iter().any(|lock| lock.go == *go && lock.host == *host) {
            let sum = compile::toolchain_sum(&options, go, host, &context.ui)?;
            locks.push(ToolchainLock::new(go.clone(), host.clone(), sum));
        }
    }
    locks.sort_by(|a, b| (&a.go, &a.host).cmp(&(&b.go, &b.host)));
    Ok(locks)
}
