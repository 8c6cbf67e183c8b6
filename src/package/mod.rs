//! Packages for hosts: `migrate` and the programs of an image as a Debian package and as a tar, for
//! machines where etcd does not run in this image.
//!
//! There is no second way to the programs: they are read out of the finished layers of the image.
//! The same inputs give the same bytes; a file gets its name when it is complete.
//!
//! Not responsible for making layers (`assemble`), or for what `before-start` does on a host
//! (docs/packages.md).

mod ar;
mod changelog;
mod contents;
mod control;
mod data;
mod maintainer;

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use maintainer::Maintainer;

use crate::digest::{Digest, Hasher};
use crate::layer::{Layer, LayerError};
use crate::plan::{ImagePlan, Plan};
use crate::platform::{Platform, debian_architecture};
use crate::replace::replace;
use crate::store::{Store, StoreError};

/// The name of the package, and of its folder below `/usr/lib`.
const NAME: &str = "etcd-migrate";

const HOMEPAGE: &str = "https://github.com/etcdimg/etcdimg";

/// Why a package was not written.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// Only Linux has Debian packages.
    #[error("there is no package for {0}")]
    NoArchitecture(Platform),
    #[error("cannot read `{path}` in a layer")]
    Layer { path: String, source: io::Error },
    #[error("no layer of the image has `{0}`")]
    Missing(String),
    #[error("cannot write `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Writer(#[from] LayerError),
}

/// A file that was written.
#[derive(Clone, Debug, Serialize)]
pub struct PackageFile {
    pub file: PathBuf,
    pub digest: Digest,
    pub size: u64,
}

/// What was written for one platform.
#[derive(Clone, Debug, Serialize)]
pub struct Package {
    pub platform: Platform,
    pub version: String,
    pub architecture: &'static str,
    pub deb: PackageFile,
    pub tar: PackageFile,
    /// The sums of both, for `sha256sum --check`.
    pub sums: PathBuf,
}

/// An image of a plan with its finished layers, to be packed.
#[derive(Clone, Copy, Debug)]
pub struct PackageJob<'a> {
    pub plan: &'a Plan,
    pub image: &'a ImagePlan,
    pub layers: &'a [Layer],
    pub maintainer: &'a Maintainer,
}

impl PackageJob<'_> {
    fn architecture(&self) -> Result<&'static str, PackageError> {
        let platform = &self.image.platform;
        debian_architecture(&platform.to_string())
            .ok_or_else(|| PackageError::NoArchitecture(platform.clone()))
    }
}

/// Writes the package and the tar of one image into a folder, and at the end their sums.
pub fn write(store: &Store, job: &PackageJob<'_>, folder: &Path) -> Result<Package, PackageError> {
    let architecture = job.architecture()?;
    let version = changelog::version(&job.plan.tag);
    let stem = format!("{NAME}_{version}_{architecture}");
    let data = data::write(store, job)?;
    let control = control::write(store, job, &data, architecture)?;
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let tar = copy(store, &data.tar, &folder.join(format!("{stem}.tar.gz")))?;
    let epoch = job.plan.epoch_seconds;
    let deb = deb(store, &control, &data.tar, epoch, &folder.join(format!("{stem}.deb")))?;
    let sums = folder.join(format!("{stem}.sha256"));
    let lines: String = [&deb, &tar].map(sum_line).concat();
    replace(&sums, |file| file.write_all(lines.as_bytes())).map_err(failed(&sums))?;
    let platform = job.image.platform.clone();
    Ok(Package { platform, version, architecture, deb, tar, sums })
}

fn failed(path: &Path) -> impl Fn(io::Error) -> PackageError {
    move |source| PackageError::Io { path: path.to_owned(), source }
}

/// As `sha256sum` writes it, for a file beside the sums.
fn sum_line(file: &PackageFile) -> String {
    let name = file.file.file_name().unwrap_or_default();
    format!("{}  {}\n", file.digest.hex(), name.display())
}

fn copy(store: &Store, from: &Layer, to: &Path) -> Result<PackageFile, PackageError> {
    let mut blob = store.open_verified(&from.digest)?;
    replace(to, |file| io::copy(&mut blob, file).map(drop)).map_err(failed(to))?;
    Ok(PackageFile { file: to.to_owned(), digest: from.digest, size: from.size })
}

fn deb(
    store: &Store,
    control: &Layer,
    data: &Layer,
    epoch: u64,
    to: &Path,
) -> Result<PackageFile, PackageError> {
    let mut control_blob = store.open_verified(&control.digest)?;
    let mut data_blob = store.open_verified(&data.digest)?;
    let mut format = &b"2.0\n"[..];
    let members = &mut [
        ar::Member { name: "debian-binary", size: 4, content: &mut format },
        ar::Member { name: "control.tar.gz", size: control.size, content: &mut control_blob },
        ar::Member { name: "data.tar.gz", size: data.size, content: &mut data_blob },
    ];
    let mut hasher = Hasher::default();
    let write = |file: &mut fs::File| {
        let inner = BufWriter::new(file);
        let mut out = HashingWriter { inner, hasher: &mut hasher };
        ar::write(&mut out, epoch, members)?;
        out.flush()
    };
    replace(to, write).map_err(failed(to))?;
    let (digest, size) = hasher.finish();
    Ok(PackageFile { file: to.to_owned(), digest, size })
}

/// Hashes everything that is written through it.
struct HashingWriter<'a, W> {
    inner: W,
    hasher: &'a mut Hasher,
}

impl<W: Write> Write for HashingWriter<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
