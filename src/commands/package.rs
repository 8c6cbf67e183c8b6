//! `etcdimg package`: packages for hosts, from the layers of the images.

use super::context::{BaseOptions, Context};
use crate::assemble;
use crate::cli::{Format, PackageArgs};
use crate::failure::Failure;
use crate::package::{self, Package, PackageError, PackageJob};

pub(super) fn run(context: &Context, arguments: &PackageArgs) -> Result<(), Failure> {
    let choice = arguments.choice();
    let (locked, mut plan) = context.plan(&choice)?;
    if choice.platforms().is_empty() {
        plan.images.retain(|image| !image.platform.is_windows());
    } else if let Some(image) = plan.images.iter().find(|it| it.platform.is_windows()) {
        return Err(PackageError::NoArchitecture(image.platform.clone()).into());
    }
    let options = context.chosen_compile_options(&locked, &arguments.compile)?;
    let bases = BaseOptions { is_sparse: false, trust: &arguments.trust };
    let packages = context.with_build_options(&locked, &options, bases, |build| {
        let layers = assemble::layers(&plan, build)?;
        let jobs = plan.images.iter().zip(&layers).map(|(image, layers)| PackageJob {
            plan: &plan,
            image,
            layers,
            maintainer: &arguments.maintainer,
        });
        let written = jobs.map(|job| {
            let package = package::write(build.store, &job, &arguments.out)?;
            context.ui.status("Packed", package.deb.file.display().to_string());
            Ok(package)
        });
        written.collect::<Result<Vec<_>, Failure>>()
    })?;
    print(context, &packages)
}

/// Prints what `sha256sum --check` reads; with `--format json`, everything.
fn print(context: &Context, packages: &[Package]) -> Result<(), Failure> {
    if context.format == Format::Json {
        return context.out_json(&packages);
    }
    for file in packages.iter().flat_map(|package| [&package.deb, &package.tar]) {
        context.ui.out(format!("{}  {}", file.digest.hex(), file.file.display()));
    }
    Ok(())
}
