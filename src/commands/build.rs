use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::json;

use super::context::{BaseOptions, Context, runtime};
use crate::assemble::{self, Built};
use crate::cli::{BuildArgs, Format};
use crate::docker::{self, ArchiveSource};
use crate::failure::{Failure, Kind};
use crate::image::Image;
use crate::layer::Layer;
use crate::plan::Plan;
use crate::platform::own_architecture;
use crate::replace::replace;

pub(super) fn run(context: &Context, arguments: &BuildArgs) -> Result<(), Failure> {
    let (locked, plan) = context.plan(&arguments.choice)?;
    let out = std::path::absolute(&arguments.out).map_err(|error| Failure::new(Kind::Io, error))?;
    let options = context.chosen_compile_options(&locked, &arguments.compile)?;
    let bases = BaseOptions { is_sparse: arguments.bases.sparse, trust: &arguments.trust };
    let built = context.with_build_options(&locked, &options, bases, |build| {
        Ok(assemble::build(&plan, build, &out)?)
    })?;
    if let Some(file) = &arguments.output {
        write_archive(&source(&plan, &built)?, file)?;
        context.ui.status("Wrote", file.display().to_string());
    }
    if arguments.load {
        let source = source(&plan, &built)?;
        runtime()?.block_on(docker::load(&source))?;
        context.ui.status("Loaded", &source.reference);
    }
    context.ui.status(
        "Built",
        format!("{}:{} in {}", plan.repository, plan.tag, arguments.out.display()),
    );
    print(context, &plan, &built, &arguments.out)
}

/// Standard output is the digest of the index, and with JSON that of every image.
fn print(context: &Context, plan: &Plan, built: &Built, out: &Path) -> Result<(), Failure> {
    if context.format != Format::Json {
        context.ui.out(built.index.to_string());
        return Ok(());
    }
    let image = |image: &Image| {
        json!({
            "platform": image.platform,
            "digest": image.manifest.digest(),
            "config": image.config.digest(),
            "layers": image.layers,
        })
    };
    context.out_json(&json!({
        "reference": format!("{}:{}", plan.repository, plan.tag),
        "layout": out,
        "digest": built.index,
        "format": plan.format,
        "images": built.images.iter().map(image).collect::<Vec<_>>(),
    }))
}

/// Docker's archive and engine take one platform: the machine's own, or the only one there is.
fn source(plan: &Plan, built: &Built) -> Result<ArchiveSource, Failure> {
    let is_own = |image: &&Image| {
        image.platform.os == "linux" && image.platform.architecture == own_architecture()
    };
    let only = match &built.images[..] {
        [image] => Some(image),
        images => images.iter().find(is_own),
    };
    let image = only.ok_or_else(|| {
        Failure::new(
            Kind::Other,
            "a Docker archive holds one platform, and none of these is this machine's",
        )
        .hint("name one with `--arch ARCH`")
    })?;
    let is_here = |layer: &&Layer| built.layout.blob_path(&layer.digest).is_file();
    if let Some(layer) = image.layers.iter().find(|layer| !is_here(layer)) {
        let why = format!("a Docker archive holds whole images, and {} is elsewhere", layer.digest);
        return Err(Failure::new(Kind::Other, why).hint(
            "build without `--sparse`; layers that must not be distributed cannot be loaded",
        ));
    }
    let reference = format!("{}:{}", plan.repository, plan.tag);
    Ok(image.archive(built.layout.clone(), reference))
}

/// A full disk leaves no half archive.
fn write_archive(source: &ArchiveSource, file: &Path) -> Result<(), Failure> {
    let write = || -> io::Result<()> {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        replace(file, |file| {
            let mut writer = BufWriter::new(file);
            docker::write_archive(source, &mut writer)?;
            writer.flush()
        })
    };
    write().map_err(|error| {
        Failure::new(Kind::Io, error).hint(format!("`{}` was not written", file.display()))
    })
}
