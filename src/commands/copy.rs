use super::access::Access;
use super::context::{Context, runtime};
use crate::cli::{CopyArgs, Format};
use crate::copy::Copier;
use crate::failure::{Failure, Kind};
use crate::push::{Overwrite, Report};
use crate::registry::{Naming, Remote};

pub(super) fn run(context: &Context, arguments: &CopyArgs) -> Result<(), Failure> {
    let source: Naming = arguments.source.parse()?;
    let destination: Naming = arguments.destination.parse()?;
    if destination.digest.is_some() {
        let text = "a destination has a tag or none; its digest is that of the source";
        return Err(Failure::new(Kind::Other, text));
    }
    let registries = [source.repository.registry(), destination.repository.registry()];
    let access = Access::new(context, &arguments.access, &registries[1..])?;
    let tags = destination.tag.clone().or_else(|| source.tag.clone());
    let tags: Vec<_> = tags.into_iter().collect();
    let report =
        runtime()?.block_on(copy(context, arguments, &access, &source, &destination, &tags))?;
    if context.format == Format::Json {
        return context.out_json(&report);
    }
    context.ui.out(format!("{}@{}", report.repository, report.digest));
    Ok(())
}

async fn copy(
    context: &Context,
    arguments: &CopyArgs,
    access: &Access,
    source: &Naming,
    destination: &Naming,
    tags: &[String],
) -> Result<Report, Failure> {
    let store = context.store()?;
    // Within one registry nothing has to leave it.
    let is_near = source.repository.registry() == destination.repository.registry();
    let is_same = source.repository == destination.repository;
    let sources: Vec<_> =
        (is_near && !is_same).then(|| source.repository.path().to_owned()).into_iter().collect();
    let from = access.pulling(&source.repository).await;
    let to = access.pushing(&destination.repository, &sources).await;
    let lock = to.host().lock(to.repository()).await;
    let _lock = lock.map_err(|error| Failure::new(Kind::Io, error))?;
    let puller = access.puller(&store);
    let copier = Copier {
        from: &from,
        to: &to,
        puller: &puller,
        store: &store,
        sources: &sources,
        overwrite: if arguments.force { Overwrite::Forced } else { Overwrite::Never },
        ui: &context.ui,
    };
    Ok(copier.copy(&at(source, &from), tags).await?)
}

/// The same, as it is reached: an insecure registry may have no TLS.
fn at(naming: &Naming, remote: &Remote) -> Naming {
    Naming { repository: remote.repository().clone(), ..naming.clone() }
}
