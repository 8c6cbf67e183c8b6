//! `etcdimg manifests`: prints or writes Kubernetes manifests.

use std::fs;
use std::path::Path;

use super::context::Context;
use crate::cli::{Format, ManifestsArgs};
use crate::failure::{Failure, Kind};
use crate::manifests::{self, File, ManifestKind, Setting};

pub(super) fn run(context: &Context, arguments: &ManifestsArgs) -> Result<(), Failure> {
    let tag = match &arguments.tag {
        Some(tag) => tag.clone(),
        None => context.catalog()?.0.versions.tag,
    };
    let setting = Setting { image: format!("{}:{tag}", arguments.image), target: tag.etcd.clone() };
    let kinds = if arguments.kind.is_empty() { &ManifestKind::ALL[..] } else { &arguments.kind };
    let files: Vec<_> = kinds.iter().flat_map(|kind| manifests::files(*kind, &setting)).collect();
    match &arguments.out {
        Some(folder) => files.iter().try_for_each(|file| write(context, file, folder)),
        None if context.format == Format::Json => {
            let documents: Vec<_> = files.iter().flat_map(|file| &file.documents).collect();
            context.out_json(&documents)
        }
        None => {
            let texts: Vec<_> = files.iter().map(|file| file.text.as_str()).collect();
            context.ui.out(texts.join("---\n").trim_end());
            Ok(())
        }
    }
}

fn write(context: &Context, file: &File, folder: &Path) -> Result<(), Failure> {
    let path = folder.join(&file.name);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&path, &file.text))
        .map_err(|error| Failure::new(Kind::Io, error))?;
    context.ui.status("Wrote", path.display().to_string());
    Ok(())
}
