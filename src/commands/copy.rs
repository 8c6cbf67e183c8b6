//! `etcdimg copy`

use super::context::{Context, runtime};
use crate::cli::{CopyArgs, Format};
use crate::copy::Copier;
use crate::failure::{Failure, Kind};
use crate::push::{Overwrite, PushReport};
use crate::registry::Registries;
use oci::Reference;

pub(super) fn run(context: &Context, arguments: &CopyArgs) -> Result<(), Failure> {
    let copy = Copy::new(context, arguments)?;
    let registry = copy.destination.repository.registry();
    let registries = context.registries(&arguments.access, &[registry])?;
    let report = runtime()?.block_on(copy.run(&registries))?;
    if context.format == Format::Json {
        return context.out_json(&report);
    }
    context.ui.out(format!("{}@{}", report.repository, report.digest));
    Ok(())
}

/// What is copied where.
struct Copy<'a> {
    context: &'a Context,
    source: Reference,
    destination: Reference,
    overwrite: Overwrite,
}

impl<'a> Copy<'a> {
    fn new(context: &'a Context, arguments: &CopyArgs) -> Result<Self, Failure> {
        let source: Reference = arguments.source.parse()?;
        let destination: Reference = arguments.destination.parse()?;
        if destination.digest.is_some() {
            let text = "a destination has a tag or none; its digest is that of the source";
            return Err(Failure::new(Kind::Other, text));
        }
        let overwrite = if arguments.force { Overwrite::Forced } else { Overwrite::Never };
        Ok(Self { context, source, destination, overwrite })
    }

    async fn run(&self, registries: &Registries) -> Result<PushReport, Failure> {
        let (source, destination) = (&self.source.repository, &self.destination.repository);
        let store = self.context.store()?;
        // Within one registry no blob has to leave it.
        let can_mount = source.registry() == destination.registry() && source != destination;
        let mount_sources: Vec<_> =
            can_mount.then(|| source.path().to_owned()).into_iter().collect();
        let from = registries.pull_from(source).await;
        let to = registries.push_to(destination, &mount_sources).await;
        let lock = to.registry().lock(to.repository()).await;
        let _lock = lock.map_err(|error| Failure::new(Kind::Io, error))?;
        // The repository as it is reached: an insecure registry may have no TLS.
        let repository = from.repository().clone();
        let reference = Reference { repository, ..self.source.clone() };
        let tag = self.destination.tag.clone().or_else(|| self.source.tag.clone());
        let copier = Copier {
            from: &from,
            to: &to,
            store: &store,
            mount_sources: &mount_sources,
            overwrite: self.overwrite,
            ui: &self.context.ui,
        };
        Ok(copier.copy(&reference, &tag.into_iter().collect::<Vec<_>>()).await?)
    }
}
