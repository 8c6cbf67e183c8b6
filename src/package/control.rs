//! The control data of a Debian package (deb-control(5)). There are no scripts: installing and
//! removing it touches nothing else.

use super::changelog::version;
use super::contents::{DIRECTORY_MODE, FILE_MODE};
use super::data::Data;
use super::{HOMEPAGE, NAME, PackageError, PackageJob};
use crate::layer::format::Compression;
use crate::layer::{Layer, LayerWriter};
use crate::store::Store;

/// Writes `control.tar.gz` into the store.
pub(super) fn write(
    store: &Store,
    job: &PackageJob<'_>,
    data: &Data,
    architecture: &str,
) -> Result<Layer, PackageError> {
    let control = control(job, data.installed_kib, architecture);
    let sum = |(path, sum): &(String, String)| format!("{sum}  {path}\n");
    let sums: String = data.sums.iter().map(sum).collect();
    let mut tar = LayerWriter::new(store, Compression::Gzip, job.plan.epoch_seconds)?;
    tar.directory(".", DIRECTORY_MODE)?;
    for (name, text) in [("./control", &control), ("./md5sums", &sums)] {
        tar.file(name, FILE_MODE, text.len() as u64, text.as_bytes())?;
    }
    Ok(tar.finish()?)
}

fn control(job: &PackageJob<'_>, installed_kib: u64, architecture: &str) -> String {
    let version = version(&job.plan.tag);
    let bundled = contract::labels::BUNDLED_VERSIONS;
    let bundled = job.image.labels.get(bundled).map(|it| it.replace(',', ", "));
    format!(
        "Package: {NAME}\n\
         Version: {version}\n\
         Architecture: {architecture}\n\
         Maintainer: {}\n\
         Installed-Size: {installed_kib}\n\
         Suggests: etcd-server\n\
         Section: database\n\
         Priority: optional\n\
         Homepage: {HOMEPAGE}\n\
         Description: takes etcd's data directory to another version\n \
         It upgrades and downgrades the data of an etcd on this host step by step, also\n \
         over several minor versions, before etcd starts. A part of etcd.service for\n \
         ExecStartPre= is in it, and is switched on by hand.\n \
         .\n \
         It holds etcd, etcdctl and etcdutl of these versions in a folder of its own:\n \
         {}.\n",
        job.maintainer,
        bundled.unwrap_or_default(),
    )
}
