//! What goes into packages for hosts.

use std::path::PathBuf;

use clap::Args;

use super::build::{ChoiceArgs, CompileArgs};
use super::trust::TrustArgs;
use super::value::{linux, mirror, origins};
use crate::catalog::{Mirror, Origin};
use crate::layer::format::Compression;
use crate::package::Maintainer;
use crate::platform::Platform;

const AFTER_HELP: &str = "\
For each platform three files: etcd-migrate_VERSION_ARCH.deb, the same files as .tar.gz, and .sha256
with the sums of both. Standard output has the lines of the .sha256 files, with the folder before
each name. The programs are those of the image, checked in the same way.

Example:
  etcdimg package --arch amd64 --out packages
  (cd packages && sha256sum --check *.sha256)
  apt install ./packages/etcd-migrate_3.7.1-0_amd64.deb

docs/packages.md says what they do on a host: nothing, until a drop-in is linked.";

#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct PackageArgs {
    /// Architecture, for example arm64 (may be given several times) [default: every default target
    /// that is Linux]
    #[arg(long, value_name = "ARCH", env = "ARCH", value_delimiter = ',', value_parser = linux)]
    pub arch: Vec<Option<Platform>>,
    /// Platform, for example linux/arm/v7 (may be given several times)
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Vec<Platform>,
    /// Where the programs of etcd come from [default: what the target file says]
    #[arg(long, value_name = "ORIGIN", value_parser = origins())]
    pub from: Option<Origin>,
    /// Try this URL before the mirrors of versions.yaml; {version} and {file} in it are replaced
    #[arg(long, value_name = "URL", value_parser = mirror)]
    pub mirror: Vec<Mirror>,
    /// Time of every file, in seconds since 1970
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH", default_value_t = 0)]
    pub source_date_epoch: u64,
    /// Who answers for the packages
    #[arg(
        long,
        value_name = "NAME <ADDRESS>",
        default_value = "etcdimg <etcdimg@users.noreply.github.com>"
    )]
    pub maintainer: Maintainer,
    /// Folder of the packages; other files in it are kept
    #[arg(long, short, value_name = "DIR", default_value = "packages")]
    pub out: PathBuf,
    #[command(flatten)]
    pub compile: CompileArgs,
    #[command(flatten)]
    pub trust: TrustArgs,
}

impl PackageArgs {
    /// What an image with the same programs is built by.
    pub fn choice(&self) -> ChoiceArgs {
        ChoiceArgs {
            arch: self.arch.clone(),
            platform: self.platform.clone(),
            from: self.from,
            mirror: self.mirror.clone(),
            base: Vec::new(),
            compression: Compression::default(),
            source_date_epoch: self.source_date_epoch,
        }
    }
}
