use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::json;

use super::access::Access;
use super::context::{Context, runtime};
use super::shelves::{Shelves, choose};
use crate::assemble;
use crate::catalog::Catalog;
use crate::cli::{AllPushArgs, DeliveryArgs, Format, MediaTypes, PushArgs};
use crate::digest::Digest;
use crate::failure::{Failure, Kind};
use crate::platform::Platform;
use crate::push::{
    Content, ManifestReport, Overwrite, PushPlan, Pusher, Report, TagState, Way, Wish, plan,
};
use crate::registry::{Bringer, Naming, Repository};
use crate::ui::size;

pub(super) fn run(context: &Context, arguments: &PushArgs) -> Result<(), Failure> {
    let catalog = context.catalog_if_any()?;
    let chosen = arguments.layout.iter().map(|place| choose(place));
    let shelves = Shelves::new(chosen.collect::<Result<_, _>>()?)?;
    deliver(context, &arguments.delivery, catalog.as_ref(), &shelves, arguments.platforms())
}

pub(super) fn build_and_run(context: &Context, arguments: &AllPushArgs) -> Result<(), Failure> {
    let chosen = &arguments.choice;
    if !chosen.platforms().is_empty() {
        let text = "all-push takes every default target: a part of them is no release";
        return Err(Failure::new(Kind::Other, text)
            .hint("leave out `--platform`, `--arch` and ARCH")
            .hint("`etcdimg build --platform P` and `etcdimg push --platform P` for one of them"));
    }
    // Before hours of compiling: what is missing on the command line.
    repositories(&arguments.delivery, None)?;
    let (locked, plan) = context.plan(&arguments.choice)?;
    let out = std::path::absolute(&arguments.out).map_err(|error| Failure::new(Kind::Io, error))?;
    let options = context.chosen_compile_options(&locked, &arguments.compile)?;
    let built =
        context.in_workshop_with(&locked, &options, (&arguments.bases).into(), |workshop| {
            Ok(assemble::build(&plan, workshop, &out)?)
        })?;
    let text = format!("{}:{} in {}", plan.repository, plan.tag, arguments.out.display());
    context.ui.status("Built", text);
    let tagged = built.layout.tagged()?.into_iter().find(|tagged| tagged.tag == plan.tag);
    let missing = || Failure::new(Kind::Other, format!("nothing was built as {}", plan.tag));
    let tagged = tagged.ok_or_else(missing)?;
    let catalog = Some(&locked.catalog);
    let shelves = Shelves::new(vec![(built.layout, tagged)])?;
    deliver(context, &arguments.delivery, catalog, &shelves, Vec::new())
}

fn deliver(
    context: &Context,
    arguments: &DeliveryArgs,
    catalog: Option<&Catalog>,
    shelves: &Shelves,
    platforms: Vec<Platform>,
) -> Result<(), Failure> {
    let repositories = repositories(arguments, catalog)?;
    let whole = match arguments.media_types {
        MediaTypes::Oci => shelves.content.clone(),
        MediaTypes::Docker => shelves.content.in_docker_types()?,
    };
    let own = shelves.tag().map(str::to_owned);
    let tags = own.into_iter().chain(arguments.tag.iter().cloned()).collect();
    let wish = Wish { platforms, tags, with_platform_tags: arguments.platform_tags };
    let plan = plan(&whole, &wish)?;
    let referrers = shelves.referrers(&plan)?;
    let plan = plan.with_referrers(&referrers)?;
    if let Some(text) = catalog.and_then(|catalog| lacking(catalog, &whole, &wish)) {
        context.ui.warning(text);
    }
    shelves.check(&plan)?;
    let registries: Vec<_> = repositories.iter().map(Repository::registry).collect();
    let access = Access::new(context, &arguments.access, &registries)?;
    let shipment = Shipment { context, arguments, catalog, shelves, plan: &plan, access: &access };
    let sending = join_all(repositories.iter().map(|it| shipment.send(it)));
    let (mut reports, mut failures) = (Vec::new(), Vec::new());
    for result in runtime()?.block_on(sending) {
        match result {
            Ok(report) => reports.push(report),
            Err(failure) => failures.push(failure),
        }
    }
    print(context, arguments, &reports)?;
    // All are said; the last one ends the program.
    let Some(last) = failures.pop() else { return Ok(()) };
    for failure in &failures {
        context.ui.error(failure.to_string());
    }
    Err(last)
}

/// A tag cannot get further platforms later, so whoever forgot some should know before.
fn lacking(catalog: &Catalog, whole: &Content, wish: &Wish) -> Option<String> {
    let is_release = wish.tags.contains(&catalog.versions.tag.to_string());
    let names = catalog.targets.iter().filter(|target| target.is_default);
    let names = names.map(|target| target.platform.to_string());
    let is_there = |name: &String| whole.images.iter().any(|image| image.is_for(name));
    let lacking: Vec<_> = names.filter(|name| !is_there(name)).collect();
    let is_whole = !is_release || !wish.platforms.is_empty() || lacking.is_empty();
    (!is_whole).then(|| {
        let (tag, lacking) = (&catalog.versions.tag, lacking.join(", "));
        format!("{tag} has no image for {lacking}, and gets none later; `etcdimg all-build` makes all of them")
    })
}

struct Shipment<'a> {
    context: &'a Context,
    arguments: &'a DeliveryArgs,
    catalog: Option<&'a Catalog>,
    shelves: &'a Shelves,
    plan: &'a PushPlan,
    access: &'a Access,
}

impl Shipment<'_> {
    async fn send(&self, repository: &Repository) -> Result<Report, Failure> {
        let sources = sources(self.arguments, self.catalog, self.shelves, repository)?;
        let remote = self.access.pushing(repository, &sources).await;
        let store = self.context.store()?;
        let mut left = BTreeMap::new();
        for (digest, base) in self.shelves.left() {
            left.insert(*digest, self.access.pulling(base).await.repository().clone());
        }
        let bringer = Bringer {
            puller: &self.access.puller(&store),
            repository: &|digest| left.get(digest).cloned(),
        };
        let path = |digest: &Digest| {
            if left.contains_key(digest) { store.path(digest) } else { self.shelves.path(digest) }
        };
        let pusher = Pusher {
            remote: &remote,
            sources: &sources,
            path: &path,
            bring: Some(&bringer),
            overwrite: if self.arguments.force { Overwrite::Forced } else { Overwrite::Never },
            ui: &self.context.ui,
        };
        if self.arguments.dry_run {
            return Ok(pusher.rehearse(self.plan).await?);
        }
        let lock = remote.host().lock(repository).await;
        let _lock = lock.map_err(|error| Failure::new(Kind::Io, error))?;
        Ok(pusher.push(self.plan).await?)
    }
}

/// Every registry once, with the name of the repository in it.
fn repositories(
    arguments: &DeliveryArgs,
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

/// Paths of other repositories in the same registry: what was named, here or in versions.yaml, and
/// those of our bases.
fn sources(
    arguments: &DeliveryArgs,
    catalog: Option<&Catalog>,
    shelves: &Shelves,
    repository: &Repository,
) -> Result<Vec<String>, Failure> {
    let bases = catalog.into_iter().flat_map(|it| it.versions.bases.values());
    let bases = bases.filter_map(|base| base.parse::<Naming>().ok()).map(|base| base.repository);
    let named = arguments.mount_from.iter().map(|text| text.parse::<Repository>());
    let named: Vec<_> = named.collect::<Result<_, _>>()?;
    let mut sources: Vec<String> = Vec::new();
    let listed = catalog.into_iter().flat_map(|it| it.versions.mount_from.iter().cloned());
    for source in
        named.into_iter().chain(listed).chain(bases).chain(shelves.left().values().cloned())
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
fn print(context: &Context, arguments: &DeliveryArgs, reports: &[Report]) -> Result<(), Failure> {
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

fn summary(report: &Report) -> String {
    let requests = match report.requests {
        0 if report.forecast.least == report.forecast.most => report.forecast.least.to_string(),
        0 => format!("{} to {}", report.forecast.least, report.forecast.most),
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
fn dry_lines(report: &Report) -> impl Iterator<Item = String> + '_ {
    let verb = |way: &Way| match way {
        Way::Present => "skip",
        Way::Mounted { .. } => "mount",
        Way::Uploaded { .. } => "push",
        Way::Foreign => "leave",
    };
    let blobs = report.blobs.iter().map(move |blob| {
        format!("{} {} {} {}", verb(&blob.way), blob.digest, size(blob.size), blob.media_type)
    });
    let documents = report.manifests.iter().chain(&report.referrers);
    let documents =
        documents.map(move |ManifestReport { media_type, digest, size: bytes, way }| {
            format!("{} {digest} {} {media_type}", verb(way), size(*bytes as u64))
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
