//! `etcdimg push` and `etcdimg all-push`

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::json;

use super::context::{BaseOptions, Context, runtime};
use super::layout_set::{LayoutSet, TaggedLayout};
use crate::assemble;
use crate::catalog::Catalog;
use crate::cli::{AllPushArgs, DestinationArgs, Format, MediaTypes, PushArgs};
use crate::digest::Digest;
use crate::documents::DocumentTree;
use crate::failure::{Failure, Kind};
use crate::platform::Platform;
use crate::push::{
    ManifestReport, Overwrite, PushPlan, PushReport, PushRequest, Pusher, TagState, plan,
};
use crate::registry::{BlobOutcome, BlobSource, Registries};
use crate::ui::size;
use oci::{Reference, Repository};

pub(super) fn run(context: &Context, arguments: &PushArgs) -> Result<(), Failure> {
    let catalog = context.catalog_if_any()?;
    let chosen = arguments.layout.iter().map(|name| TaggedLayout::open(name));
    let layouts = LayoutSet::new(chosen.collect::<Result<_, _>>()?)?;
    let platforms = arguments.platforms();
    push_everywhere(context, &arguments.destination, catalog.as_ref(), &layouts, platforms)
}

pub(super) fn build_and_run(context: &Context, arguments: &AllPushArgs) -> Result<(), Failure> {
    let chosen = &arguments.choice;
    if !chosen.platforms().is_empty() {
        let text = "all-push takes every default target: a part of them is no release";
        return Err(Failure::new(Kind::Other, text)
            .hint("leave out `--platform`, `--arch` and ARCH")
            .hint("`etcdimg build --platform P` and `etcdimg push --platform P` for one of them"));
    }
    // Before hours of compiling: is a registry named?
    repositories(&arguments.destination, None)?;
    let (locked, plan) = context.plan(&arguments.choice)?;
    let out = std::path::absolute(&arguments.out).map_err(|error| Failure::new(Kind::Io, error))?;
    let options = context.chosen_compile_options(&locked, &arguments.compile)?;
    let bases = BaseOptions {
        is_sparse: arguments.bases.sparse,
        trust: &arguments.destination.access.trust,
    };
    let built = context.with_build_options(&locked, &options, bases, |build| {
        Ok(assemble::build(&plan, build, &out)?)
    })?;
    let text = format!("{}:{} in {}", plan.repository, plan.tag, arguments.out.display());
    context.ui.status("Built", text);
    let tagged = built.layout.tagged()?.into_iter().find(|tagged| tagged.tag == plan.tag);
    let missing = || Failure::new(Kind::Other, format!("nothing was built as {}", plan.tag));
    let tagged = tagged.ok_or_else(missing)?;
    let catalog = Some(&locked.catalog);
    let layouts = LayoutSet::new(vec![TaggedLayout { layout: built.layout, tagged }])?;
    push_everywhere(context, &arguments.destination, catalog, &layouts, Vec::new())
}

/// Pushes to all registries at once.
fn push_everywhere(
    context: &Context,
    arguments: &DestinationArgs,
    catalog: Option<&Catalog>,
    layouts: &LayoutSet,
    platforms: Vec<Platform>,
) -> Result<(), Failure> {
    let repositories = repositories(arguments, catalog)?;
    let whole = match arguments.media_types {
        MediaTypes::Oci => layouts.tree.clone(),
        MediaTypes::Docker => layouts.tree.in_docker_types()?,
    };
    let own = layouts.tag().map(str::to_owned);
    let tags = own.into_iter().chain(arguments.tag.iter().cloned()).collect();
    let request = PushRequest { platforms, tags, with_platform_tags: arguments.platform_tags };
    let plan = plan(&whole, &request)?;
    let referrers = layouts.referrers(&plan)?;
    let plan = plan.with_referrers(&referrers)?;
    if let Some(text) = catalog.and_then(|catalog| missing_platforms(catalog, &whole, &request)) {
        context.ui.warning(text);
    }
    layouts.check(&plan)?;
    let names: Vec<_> = repositories.iter().map(Repository::registry).collect();
    let registries = &context.registries(&arguments.access, &names)?;
    let job = PushJob { context, arguments, catalog, layouts, plan: &plan, registries };
    let sending = join_all(repositories.iter().map(|it| job.push_to(it)));
    let (mut reports, mut failures) = (Vec::new(), Vec::new());
    for result in runtime()?.block_on(sending) {
        match result {
            Ok(report) => reports.push(report),
            Err(failure) => failures.push(failure),
        }
    }
    print(context, arguments, &reports)?;
    // All are reported; the last one decides the exit code.
    let Some(last) = failures.pop() else { return Ok(()) };
    for failure in &failures {
        context.ui.error(failure.to_string());
    }
    Err(last)
}

/// A warning if a release lacks platforms: its tag cannot get them later.
fn missing_platforms(
    catalog: &Catalog,
    tree: &DocumentTree,
    request: &PushRequest,
) -> Option<String> {
    let is_release = request.tags.contains(&catalog.versions.tag.to_string());
    let names = catalog.targets.iter().filter(|target| target.is_default);
    let names = names.map(|target| target.platform.to_string());
    let is_there = |name: &String| tree.images.iter().any(|image| image.is_for(name));
    let missing: Vec<_> = names.filter(|name| !is_there(name)).collect();
    let is_whole = !is_release || !request.platforms.is_empty() || missing.is_empty();
    (!is_whole).then(|| {
        let (tag, missing) = (&catalog.versions.tag, missing.join(", "));
        format!(
            "{tag} has no image for {missing}, and cannot get one later; `etcdimg all-build` \
             makes all of them"
        )
    })
}

/// The push of one plan, whatever the repository.
struct PushJob<'a> {
    context: &'a Context,
    arguments: &'a DestinationArgs,
    catalog: Option<&'a Catalog>,
    layouts: &'a LayoutSet,
    plan: &'a PushPlan,
    registries: &'a Registries,
}

impl PushJob<'_> {
    async fn push_to(&self, repository: &Repository) -> Result<PushReport, Failure> {
        let mount_sources = mount_sources(self.arguments, self.catalog, self.layouts, repository)?;
        let remote = self.registries.push_to(repository, &mount_sources).await;
        let store = self.context.store()?;
        let mut bases = BTreeMap::new();
        for (digest, base) in self.layouts.left_out() {
            bases.insert(*digest, self.registries.pull_from(base).await);
        }
        let source = |digest: &Digest| match bases.get(digest) {
            Some(base) => BlobSource::Repository { repository: base.clone(), store: store.clone() },
            None => BlobSource::File(self.layouts.path(digest)),
        };
        let pusher = Pusher {
            remote: &remote,
            mount_sources: &mount_sources,
            source: &source,
            overwrite: if self.arguments.force { Overwrite::Forced } else { Overwrite::Never },
            ui: &self.context.ui,
        };
        if self.arguments.dry_run {
            return Ok(pusher.rehearse(self.plan).await?);
        }
        let lock = remote.registry().lock(repository).await;
        let _lock = lock.map_err(|error| Failure::new(Kind::Io, error))?;
        Ok(pusher.push(self.plan).await?)
    }
}

/// The repository in each registry that was named.
fn repositories(
    arguments: &DestinationArgs,
    catalog: Option<&Catalog>,
) -> Result<Vec<Repository>, Failure> {
    let mut registries = arguments.registry.clone();
    if registries.iter().all(String::is_empty) {
        registries = std::env::var("REGISTRY").into_iter().collect();
    }
    registries.retain(|registry| !registry.is_empty());
    let name = arguments.repository.clone();
    let name = name.or_else(|| Some(catalog?.versions.repository.clone()));
    let name = name.unwrap_or_else(|| "etcd".to_owned());
    let mut repositories: Vec<Repository> = Vec::new();
    for registry in registries {
        let repository = format!("{}/{name}", registry.trim_end_matches('/')).parse()?;
        if !repositories.contains(&repository) {
            repositories.push(repository);
        }
    }
    if repositories.is_empty() {
        return Err(Failure::new(Kind::Other, "no registry to push to")
            .hint("name one with `--registry REGISTRY`, or PUSH_REGISTRY"));
    }
    Ok(repositories)
}

/// Paths of other repositories in the same registry that blobs may be mounted from: those that were
/// named, here or in versions.yaml, and those of the bases.
fn mount_sources(
    arguments: &DestinationArgs,
    catalog: Option<&Catalog>,
    layouts: &LayoutSet,
    repository: &Repository,
) -> Result<Vec<String>, Failure> {
    let bases = catalog.into_iter().flat_map(|it| it.versions.bases.values());
    let bases = bases.filter_map(|base| base.parse::<Reference>().ok()).map(|base| base.repository);
    let named = arguments.mount_from.iter().map(|text| text.parse::<Repository>());
    let named: Vec<_> = named.collect::<Result<_, _>>()?;
    let mut sources: Vec<String> = Vec::new();
    let listed = catalog.into_iter().flat_map(|it| it.versions.mount_from.iter().cloned());
    for source in
        named.into_iter().chain(listed).chain(bases).chain(layouts.left_out().values().cloned())
    {
        let is_other = source.registry() == repository.registry() && source != *repository;
        if is_other && !sources.iter().any(|path| path == source.path()) {
            sources.push(source.path().to_owned());
        }
    }
    Ok(sources)
}

/// Standard output is one line for each repository, or for each image that was named; or all of it
/// as JSON.
fn print(
    context: &Context,
    arguments: &DestinationArgs,
    reports: &[PushReport],
) -> Result<(), Failure> {
    for report in reports {
        context.ui.status(if arguments.dry_run { "Would push" } else { "Pushed" }, summary(report));
        if arguments.dry_run && context.format == Format::Text {
            dry_lines(report).for_each(|line| context.ui.out(line));
        } else if context.format == Format::Text {
            for digest in &report.named {
                context.ui.out(format!("{}@{digest}", report.repository));
            }
        }
    }
    if context.format == Format::Text {
        return Ok(());
    }
    context.out_json(&json!({ "dry_run": arguments.dry_run, "repositories": reports }))
}

fn summary(report: &PushReport) -> String {
    let requests = match report.requests {
        0 if report.estimate.least == report.estimate.most => report.estimate.least.to_string(),
        0 => format!("{} to {}", report.estimate.least, report.estimate.most),
        requests => requests.to_string(),
    };
    format!(
        "{}: {} moved, {} mounted, {} skipped, {requests} requests",
        report.repository,
        size(report.moved_bytes),
        size(report.mounted_bytes),
        size(report.skipped_bytes),
    )
}

/// What would move, as `verb digest size`.
fn dry_lines(report: &PushReport) -> impl Iterator<Item = String> + '_ {
    let verb = |outcome: &BlobOutcome| match outcome {
        BlobOutcome::Exists => "skip",
        BlobOutcome::Mounted { .. } => "mount",
        BlobOutcome::Uploaded { .. } => "push",
        BlobOutcome::Foreign => "leave",
    };
    let blobs = report.blobs.iter().map(move |blob| {
        format!("{} {} {} {}", verb(&blob.outcome), blob.digest, size(blob.size), blob.media_type)
    });
    let documents = report.manifests.iter().chain(&report.referrers);
    let documents =
        documents.map(move |ManifestReport { media_type, digest, size: bytes, outcome }| {
            format!("{} {digest} {} {media_type}", verb(outcome), size(*bytes as u64))
        });
    let tags = report.tags.iter().map(|tag| {
        let verb = match tag.state {
            TagState::Same => "keep",
            TagState::New => "tag",
            TagState::Moved => "move",
        };
        format!("{verb} {}:{} {}", report.repository, tag.tag, tag.digest)
    });
    blobs.chain(documents).chain(tags)
}
