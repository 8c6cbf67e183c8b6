//! Makes the layers of a plan, or takes them from the store.

use std::collections::BTreeMap;

use super::inputs::{self, Programs, fetch_archives};
use super::{BuildContext, BuildError, parallel};
use crate::archive;
use crate::digest::Digest;
use crate::image::json::canonical;
use crate::layer::format::FORMAT;
use crate::layer::{Dialect, Layer, LayerWriter};
use crate::plan::{EntryContent, EntryPlan, LayerPlan, Plan, ProgramSource};
use crate::platform::Platform;
use crate::program::{self, CHECK_VERSION, Expected, Identity, WrongProgram};

/// A layer that has to be made.
struct LayerJob<'a> {
    key: Digest,
    plan: &'a LayerPlan,
    platform: &'a Platform,
    programs: Programs,
}

/// The layers of every image, in the order of the plan.
pub(super) fn make(plan: &Plan, context: &BuildContext<'_>) -> Result<Vec<Vec<Layer>>, BuildError> {
    refuse_offline(plan, context)?;
    let programs = inputs::all_programs(plan, context)?;
    let mut programs = programs.into_iter();
    let mut keys = Vec::new();
    let mut jobs: BTreeMap<Digest, LayerJob<'_>> = BTreeMap::new();
    let mut done: BTreeMap<Digest, Layer> = BTreeMap::new();
    for image in &plan.images {
        let mut image_keys = Vec::new();
        for layer in &image.layers {
            let Some(programs) = programs.next() else { continue };
            let key = key(plan, &image.platform, layer, &programs);
            image_keys.push(key);
            match known(context, &key) {
                Some(layer) => drop(done.insert(key, layer)),
                None => drop(jobs.insert(
                    key,
                    LayerJob { key, plan: layer, platform: &image.platform, programs },
                )),
            }
        }
        keys.push(image_keys);
    }
    let jobs: Vec<_> = jobs.into_values().collect();
    fetch_archives(
        context,
        jobs.iter().filter_map(|job| match &job.programs {
            Programs::Archive(release) => Some(release),
            Programs::Files(_) => None,
        }),
    )?;
    done.extend(run(plan, context, &jobs)?);
    let layers = |keys: &Vec<Digest>| keys.iter().map(|key| done[key].clone()).collect();
    Ok(keys.iter().map(layers).collect())
}

/// With `--offline`, a missing archive is reported before anything is compiled.
fn refuse_offline(plan: &Plan, context: &BuildContext<'_>) -> Result<(), BuildError> {
    if !context.is_offline {
        return Ok(());
    }
    let layers = plan.images.iter().flat_map(|it| it.layers.iter().map(move |layer| (it, layer)));
    for (image, layer) in layers {
        let ProgramSource::Release(release) = &layer.source else { continue };
        let key = key(plan, &image.platform, layer, &Programs::Archive(release.clone()));
        if known(context, &key).is_none() && !context.store.has(&release.digest) {
            return Err(BuildError::Offline(release.file.clone()));
        }
    }
    Ok(())
}

fn known(context: &BuildContext<'_>, key: &Digest) -> Option<Layer> {
    let layer: Layer = context.store.record("layer", key)?;
    (context.store.size(&layer.digest) == Some(layer.size)).then_some(layer)
}

/// The digest of everything that decides the bytes of a layer, and of how its programs are
/// checked.
fn key(plan: &Plan, platform: &Platform, layer: &LayerPlan, programs: &Programs) -> Digest {
    Digest::of(canonical(&serde_json::json!({
        "format": FORMAT,
        "check": CHECK_VERSION,
        "compression": plan.compression,
        "level": plan.compression.level(),
        "epoch": plan.epoch_seconds,
        // Layers are the same for every release of Windows.
        "platform": Platform { os_version: None, ..platform.clone() },
        "entries": layer.entries,
        "programs": programs.identity(),
        // What the check compares: if it changes, the same bytes are checked again.
        "identity": identity(layer),
    })))
}

/// What the programs of a layer must report about themselves.
fn identity(layer: &LayerPlan) -> [&str; 2] {
    match &layer.source {
        ProgramSource::Release(it) => [&it.go, &it.commit],
        ProgramSource::Modules(it) => [&it.go, &it.commit],
        ProgramSource::Workspace(it) => [&it.rust, env!("CARGO_PKG_VERSION")],
    }
}

/// Makes layers, as many at once as there are cores.
fn run(
    plan: &Plan,
    context: &BuildContext<'_>,
    jobs: &[LayerJob<'_>],
) -> Result<Vec<(Digest, Layer)>, BuildError> {
    parallel::each(jobs, parallel::n_cores(), |job| {
        let layer = write(plan, context, job)?;
        context.store.put_record("layer", &job.key, &layer)?;
        let size = crate::ui::size(layer.size);
        let text = format!("{} for {} {size}", job.plan.name, job.platform);
        context.ui.status("Assembled", text);
        Ok((job.key, layer))
    })
}

fn write(plan: &Plan, context: &BuildContext<'_>, job: &LayerJob<'_>) -> Result<Layer, BuildError> {
    let dialect = if job.platform.is_windows() { Dialect::Windows } else { Dialect::Posix };
    let writer = LayerWriter::new(context.store, plan.compression, plan.epoch_seconds)?;
    let mut writer = writer.in_dialect(dialect);
    let mut entries = job.plan.entries.iter().peekable();
    plain(&mut writer, &mut entries)?;
    each_program(context, job, |bytes| {
        let Some(entry) = entries.next() else { return Ok(()) };
        check(job, entry, &bytes)?;
        writer.file(&entry.path, entry.mode, bytes.len() as u64, &bytes[..])?;
        plain(&mut writer, &mut entries)
    })?;
    match entries.next() {
        Some(entry) => Err(BuildError::NoProgram(entry.path.clone())),
        None => Ok(writer.finish()?),
    }
}

/// Writes entries up to the next program.
fn plain<'a>(
    writer: &mut LayerWriter,
    entries: &mut std::iter::Peekable<impl Iterator<Item = &'a EntryPlan>>,
) -> Result<(), BuildError> {
    while let Some(entry) =
        entries.next_if(|it| !matches!(it.content, EntryContent::Program { .. }))
    {
        match &entry.content {
            EntryContent::Directory => writer.directory(&entry.path, entry.mode)?,
            EntryContent::HardLink { to } => writer.hard_link(&entry.path, entry.mode, to)?,
            EntryContent::Text { text } => {
                writer.file(&entry.path, entry.mode, text.len() as u64, text.as_bytes())?;
            }
            EntryContent::Program { .. } => {}
        }
    }
    Ok(())
}

/// Calls `each` with the bytes of every program, in the order of the plan. Only one program is in
/// memory at a time.
fn each_program(
    context: &BuildContext<'_>,
    job: &LayerJob<'_>,
    mut each: impl FnMut(Vec<u8>) -> Result<(), BuildError>,
) -> Result<(), BuildError> {
    let names = job.plan.entries.iter().filter_map(|entry| match &entry.content {
        EntryContent::Program { name } => Some(name),
        _ => None,
    });
    match &job.programs {
        Programs::Archive(release) => {
            let mut archive = context.store.open_verified(&release.digest)?;
            // Only releases for Windows are zip archives.
            let (extension, exe) =
                if archive::is_zip(&release.file) { (".zip", ".exe") } else { (".tar.gz", "") };
            let folder = release.file.trim_end_matches(extension);
            let members: Vec<_> = names.map(|name| format!("{folder}/{name}{exe}")).collect();
            archive::read_files(&mut archive, &release.file, &members, |_, bytes| each(bytes))
        }
        Programs::Files(files) => names
            .filter_map(|name| files.iter().find(|file| file.name == *name))
            .try_for_each(|file| each(context.store.read(&file.digest)?)),
    }
}

/// Refuses a program that is not the planned one, before it gets into a layer.
fn check(job: &LayerJob<'_>, entry: &EntryPlan, bytes: &[u8]) -> Result<(), BuildError> {
    let EntryContent::Program { name } = &entry.content else { return Ok(()) };
    let version;
    let content = match &job.plan.source {
        ProgramSource::Release(it) => {
            version = it.version.to_string();
            Identity::Etcd { program: name, version: &version, go: &it.go, commit: &it.commit }
        }
        ProgramSource::Modules(it) => {
            version = it.version.to_string();
            Identity::Etcd { program: name, version: &version, go: &it.go, commit: &it.commit }
        }
        ProgramSource::Workspace(_) => Identity::Migrate { version: env!("CARGO_PKG_VERSION") },
    };
    let name = entry.path.rsplit('/').next().unwrap_or(&entry.path);
    let faults: Vec<WrongProgram> =
        program::check(bytes, &Expected { name, platform: job.platform, content });
    if faults.is_empty() { Ok(()) } else { Err(BuildError::WrongProgram(faults)) }
}
