//! `etcdimg lock`: looks up every digest that etcdimg.lock lacks.

use std::collections::BTreeSet;
use std::io::Write as _;

use etcd_version::EtcdVersion;

use super::access;
use super::context::{Context, runtime};
use crate::catalog::lock::{BaseLock, Lock, ReleaseLock, SourceLock, ToolchainLock};
use crate::catalog::{self, Catalog, LOCK_FILE, Mirror};
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
    // Digests of a readable lock are kept; an unreadable lock is written again.
    let known = text.as_deref().and_then(|text| catalog::parse_lock(text).ok());
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

/// Looks up what `known` lacks.
fn make(
    context: &Context,
    arguments: &LockArgs,
    catalog: &Catalog,
    known: Option<&Lock>,
) -> Result<Lock, Failure> {
    let (options, runtime) = (access::fetch_options(&arguments.trust)?, runtime()?);
    let registries = access::base_registries(context.store()?.root(), &context.ui, &options);
    let lookup = Lookup::new(&options, &registries);
    let known = known.filter(|_| !arguments.refresh);
    let search = Search { context, catalog, known, lookup: &lookup, runtime: &runtime };
    Ok(Lock {
        catalog: catalog.digest(),
        releases: search.releases(&arguments.mirror)?,
        sources: sources(catalog)?,
        toolchains: toolchains(context, arguments, catalog, known)?,
        bases: search.bases()?,
    })
}

/// Finds digests: in the known lock, or on the network.
struct Search<'a> {
    context: &'a Context,
    catalog: &'a Catalog,
    known: Option<&'a Lock>,
    lookup: &'a Lookup<'a>,
    runtime: &'a tokio::runtime::Runtime,
}

impl Search<'_> {
    fn releases(&self, mirrors: &[Mirror]) -> Result<Vec<ReleaseLock>, Failure> {
        let release = |(version, file): (EtcdVersion, String)| {
            if let Some(locked) = self.known.and_then(|lock| lock.release(&file)) {
                return Ok(locked.clone());
            }
            self.refuse_offline(&file)?;
            let mirrors = mirrors.iter().chain(&self.catalog.versions.mirrors);
            let looking = self.lookup.release(mirrors, &version, &file);
            let (digest, size) = self.runtime.block_on(looking)?;
            self.context.ui.status("Looked up", format!("{file} {digest}"));
            Ok(ReleaseLock::new(file, digest, size))
        };
        self.catalog.releases().map(release).collect()
    }

    fn bases(&self) -> Result<Vec<BaseLock>, Failure> {
        let base = |(name, reference): (&String, &String)| {
            let targets = self.catalog.targets.iter().filter(|it| it.base == *name);
            let platforms: Vec<_> = targets.map(|it| it.platform.clone()).collect();
            let has_all = |base: &&BaseLock| platforms.iter().all(|it| base.manifest(it).is_some());
            let known = self.known.and_then(|lock| lock.base(name)).filter(has_all);
            if let Some(locked) = known {
                return Ok(locked.clone());
            }
            self.refuse_offline(reference)?;
            let looking = self.lookup.base(reference, &platforms);
            let (index, manifests) = self.runtime.block_on(looking)?;
            self.context.ui.status("Looked up", format!("{reference} {index}"));
            Ok(BaseLock::new(name.clone(), index, manifests))
        };
        self.catalog.versions.bases.iter().map(base).collect()
    }

    fn refuse_offline(&self, what: &str) -> Result<(), Failure> {
        if !self.context.is_offline {
            return Ok(());
        }
        let text = format!("{what} is not in {LOCK_FILE}, and --offline is set");
        Err(Failure::new(Kind::Unavailable, text))
    }
}

/// The Go modules below `sources/` are part of the repository: their files are hashed.
fn sources(catalog: &Catalog) -> Result<Vec<SourceLock>, Failure> {
    let source = |version: &EtcdVersion| {
        let (go_mod, go_sum) = catalog.sources.get(&version.to_string()).ok_or_else(|| {
            Failure::new(Kind::Catalog, format!("there is no folder sources/{version}"))
                .hint("see docs/sources.md for how to make the Go module of a version")
        })?;
        Ok(SourceLock::new(version.clone(), *go_mod, *go_sum))
    };
    catalog.versions.bundled.iter().map(|etcd| source(&etcd.version)).collect()
}

/// Looks up missing sums for this host and for the hosts of `--go-host`. Known sums of other hosts
/// are kept.
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
