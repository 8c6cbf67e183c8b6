use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Mutex;
use std::thread;

use super::inputs::{self, Programs, fetch_archives};
use super::{BuildError, Workshop};
use crate::archive;
use crate::digest::Digest;
use crate::image::json::canonical;
use crate::layer::format::FORMAT;
use crate::layer::{Dialect, Layer, LayerWriter};
use crate::plan::{Content, EntryPlan, LayerPlan, Plan, Source};
use crate::platform::Platform;
use crate::program::{self, CHECK_VERSION, Expected, Identity, WrongProgram};

/// One layer to be made.
struct Job<'a> {
    key: Digest,
    plan: &'a LayerPlan,
    platform: &'a Platform,
    programs: Programs,
}

/// The layers of every image, in the order of the plan.
pub(super) fn make(plan: &Plan, workshop: &Workshop<'_>) -> Result<Vec<Vec<Layer>>, BuildError> {
    refuse_offline(plan, workshop)?;
    let programs = inputs::all_programs(plan, workshop)?;
    let mut programs = programs.into_iter();
    let mut keys = Vec::new();
    let mut jobs: BTreeMap<Digest, Job<'_>> = BTreeMap::new();
    let mut done: BTreeMap<Digest, Layer> = BTreeMap::new();
    for image in &plan.images {
        let mut image_keys = Vec::new();
        for layer in &image.layers {
            let Some(programs) = programs.next() else { continue };
            let key = key(plan, &image.platform, layer, &programs);
            image_keys.push(key);
            match known(workshop, &key) {
                Some(layer) => drop(done.insert(key, layer)),
                None => drop(
                    jobs.insert(key, Job { key, plan: layer, platform: &image.platform, programs }),
                ),
            }
        }
        keys.push(image_keys);
    }
    let jobs: Vec<_> = jobs.into_values().collect();
    fetch_archives(
        workshop,
        jobs.iter().filter_map(|job| match &job.programs {
            Programs::Archive(release) => Some(release),
            Programs::Files(_) => None,
        }),
    )?;
    done.extend(run(plan, workshop, jobs)?);
    let layers = |keys: &Vec<Digest>| keys.iter().map(|key| done[key].clone()).collect();
    Ok(keys.iter().map(layers).collect())
}

/// Without a connection a missing archive is known at once, before anything is compiled.
fn refuse_offline(plan: &Plan, workshop: &Workshop<'_>) -> Result<(), BuildError> {
    if !workshop.is_offline {
        return Ok(());
    }
    let layers = plan.images.iter().flat_map(|it| it.layers.iter().map(move |layer| (it, layer)));
    for (image, layer) in layers {
        let Source::Release(release) = &layer.source else { continue };
        let key = key(plan, &image.platform, layer, &Programs::Archive(release.clone()));
        if known(workshop, &key).is_none() && !workshop.store.has(&release.digest) {
            return Err(BuildError::Offline(release.file.clone()));
        }
    }
    Ok(())
}

fn known(workshop: &Workshop<'_>, key: &Digest) -> Option<Layer> {
    let layer: Layer = workshop.store.record("layer", key)?;
    (workshop.store.size(&layer.digest) == Some(layer.size)).then_some(layer)
}

/// Everything that decides the bytes of a layer, and how strictly its programs were looked at.
fn key(plan: &Plan, platform: &Platform, layer: &LayerPlan, programs: &Programs) -> Digest {
    Digest::of(canonical(&serde_json::json!({
        "format": FORMAT,
        "check": CHECK_VERSION,
        "compression": plan.compression,
        "level": plan.compression.level(),
        "epoch": plan.epoch_seconds,
        // Every Windows has the same layers.
        "platform": Platform { os_version: None, ..platform.clone() },
        "entries": layer.entries,
        "programs": programs.identity(),
        // What the check compares: another answer looks again at the same bytes.
        "identity": identity(layer),
    })))
}

/// What the programs of a layer have to say of themselves.
fn identity(layer: &LayerPlan) -> [&str; 2] {
    match &layer.source {
        Source::Release(it) => [&it.go, &it.commit],
        Source::Modules(it) => [&it.go, &it.commit],
        Source::Workspace(it) => [&it.rust, env!("CARGO_PKG_VERSION")],
    }
}

/// As many at once as there are cores; the first error ends the rest.
fn run(
    plan: &Plan,
    workshop: &Workshop<'_>,
    jobs: Vec<Job<'_>>,
) -> Result<Vec<(Digest, Layer)>, BuildError> {
    let n_workers = thread::available_parallelism().map_or(1, NonZero::get).min(jobs.len());
    let queue = Mutex::new(jobs.into_iter());
    let next = || queue.lock().ok()?.next();
    let work = || -> Result<Vec<(Digest, Layer)>, BuildError> {
        let mut layers = Vec::new();
        while let Some(job) = next() {
            let layer = write(plan, workshop, &job).inspect_err(|_| {
                // Nobody takes another job.
                while next().is_some() {}
            })?;
            workshop.store.put_record("layer", &job.key, &layer)?;
            let size = crate::ui::size(layer.size);
            workshop
                .ui
                .status("Assembled", format!("{} for {} {size}", job.plan.name, job.platform));
            layers.push((job.key, layer));
        }
        Ok(layers)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..n_workers).map(|_| scope.spawn(work)).collect();
        let results = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        results.collect::<Result<Vec<_>, _>>().map(|layers| layers.into_iter().flatten().collect())
    })
}

fn write(plan: &Plan, workshop: &Workshop<'_>, job: &Job<'_>) -> Result<Layer, BuildError> {
    let dialect = if job.platform.is_windows() { Dialect::Windows } else { Dialect::Posix };
    let writer = LayerWriter::new(workshop.store, plan.compression, plan.epoch_seconds)?;
    let mut writer = writer.in_dialect(dialect);
    let mut entries = job.plan.entries.iter().peekable();
    plain(&mut writer, &mut entries)?;
    each_program(workshop, job, |bytes| {
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
    while let Some(entry) = entries.next_if(|it| !matches!(it.content, Content::Program { .. })) {
        match &entry.content {
            Content::Directory => writer.directory(&entry.path, entry.mode)?,
            Content::HardLink { to } => writer.hard_link(&entry.path, entry.mode, to)?,
            Content::Text { text } => {
                writer.file(&entry.path, entry.mode, text.len() as u64, text.as_bytes())?;
            }
            Content::Program { .. } => {}
        }
    }
    Ok(())
}

/// The bytes of each program in the order of the plan, one at a time in memory.
fn each_program(
    workshop: &Workshop<'_>,
    job: &Job<'_>,
    mut each: impl FnMut(Vec<u8>) -> Result<(), BuildError>,
) -> Result<(), BuildError> {
    let names = job.plan.entries.iter().filter_map(|entry| match &entry.content {
        Content::Program { name } => Some(name),
        _ => None,
    });
    match &job.programs {
        Programs::Archive(release) => {
            let mut archive = workshop.store.open_verified(&release.digest)?;
            let folder = release.file.trim_end_matches(".tar.gz");
            let members: Vec<_> = names.map(|name| format!("{folder}/{name}")).collect();
            archive::members(&mut archive, &release.file, &members, |_, bytes| each(bytes))
        }
        Programs::Files(files) => names
            .filter_map(|name| files.iter().find(|file| file.name == *name))
            .try_for_each(|file| each(workshop.store.read(&file.digest)?)),
    }
}

/// A program that is not the planned one never gets into a layer.
fn check(job: &Job<'_>, entry: &EntryPlan, bytes: &[u8]) -> Result<(), BuildError> {
    let Content::Program { name } = &entry.content else { return Ok(()) };
    let version;
    let content = match &job.plan.source {
        Source::Release(it) => {
            version = it.version.to_string();
            Identity::Etcd { program: name, version: &version, go: &it.go, commit: &it.commit }
        }
        Source::Modules(it) => {
            version = it.version.to_string();
            Identity::Etcd { program: name, version: &version, go: &it.go, commit: &it.commit }
        }
        Source::Workspace(_) => Identity::Migrate { version: env!("CARGO_PKG_VERSION") },
    };
    let name = entry.path.rsplit('/').next().unwrap_or(&entry.path);
    let faults: Vec<WrongProgram> =
        program::check(bytes, &Expected { name, platform: job.platform, content });
    if faults.is_empty() { Ok(()) } else { Err(BuildError::WrongProgram(faults)) }
}
