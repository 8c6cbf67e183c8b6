//! What is built, and with what: the arguments that plan, fetch and build share.

use std::num::NonZero;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::trust::TrustArgs;
use super::value::{compressions, docker_archive, linux, mirror, origins, pinned_image};
use crate::catalog::{Mirror, Origin};
use crate::layer::format::Compression;
use crate::plan::BaseOverride;
use crate::platform::Platform;

/// What to build. Shared by plan, fetch and build, so that they mean the same thing.
#[derive(Clone, Debug, Args)]
pub struct ChoiceArgs {
    /// Architecture of a Linux image, for example arm64 (may be given several times)
    #[arg(long, value_name = "ARCH", env = "ARCH", value_delimiter = ',', value_parser = linux)]
    pub arch: Vec<Option<Platform>>,
    /// Platform, for example linux/arm/v7 or windows/amd64:ltsc2022 (may be given several times)
    #[arg(long, value_name = "OS/ARCH[:OSVERSION]")]
    pub platform: Vec<Platform>,
    /// Where the programs of etcd come from [default: what the target file says]
    #[arg(long, value_name = "ORIGIN", value_parser = origins())]
    pub from: Option<Origin>,
    /// Try this URL before the mirrors of versions.yaml; {version} and {file} in it are replaced
    #[arg(long, value_name = "URL", value_parser = mirror)]
    pub mirror: Vec<Mirror>,
    /// Use another base image: NAME=rootfs:FILE@DIGEST, NAME=oci:DIR@DIGEST or
    /// NAME=REPOSITORY@DIGEST
    #[arg(long, value_name = "NAME=SOURCE@DIGEST")]
    pub base: Vec<BaseOverride>,
    /// Compression of the layers
    #[arg(long, value_name = "KIND", default_value = "gzip", value_parser = compressions())]
    pub compression: Compression,
    /// Time of everything in the image, in seconds since 1970
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH", default_value_t = 0)]
    pub source_date_epoch: u64,
}

impl ChoiceArgs {
    /// The platforms that `--platform` and `--arch` name.
    pub fn platforms(&self) -> Vec<Platform> {
        self.platform.iter().chain(self.arch.iter().flatten()).cloned().collect()
    }

    /// As `make build` of the old image: amd64, if no platform is named.
    pub fn default_to_amd64(&mut self) {
        if self.platforms().is_empty() {
            self.arch.push(linux("amd64").ok().flatten());
        }
    }
}

#[derive(Clone, Debug, Args)]
pub struct BuildArgs {
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// Folder of the OCI image layout; images with other tags in it are kept
    #[arg(long, short, value_name = "DIR", default_value = "dist")]
    pub out: PathBuf,
    /// Also write an archive for `docker load`: docker-archive:FILE
    #[arg(long, value_name = "KIND:FILE", value_parser = docker_archive)]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub compile: CompileArgs,
    #[command(flatten)]
    pub bases: BasesArgs,
    #[command(flatten)]
    pub trust: TrustArgs,
    /// Also load the image of this machine's architecture into the Docker engine
    #[arg(long)]
    pub load: bool,
}

/// How much of the base images is downloaded.
#[derive(Clone, Debug, Args)]
pub struct BasesArgs {
    /// Do not download layers of Windows bases; a push fetches those that the destination lacks
    #[arg(long)]
    pub sparse: bool,
}

/// How programs are compiled. The resulting bytes are the same.
#[derive(Clone, Debug, Args)]
pub struct CompileArgs {
    /// What compiles: docker buildx, or the toolchains of this machine
    #[arg(long, value_name = "BUILDER", default_value = "auto")]
    pub builder: BuilderKind,
    /// Image that buildx compiles in [default: the locked `builder` of versions.yaml]
    #[arg(long, value_name = "IMAGE@DIGEST", value_parser = pinned_image)]
    pub builder_image: Option<String>,
    /// Name of the buildx builder, for example one with a remote BuildKit or several nodes
    #[arg(long, value_name = "NAME")]
    pub buildx_builder: Option<String>,
    /// Cache that buildx writes, for example type=registry,ref=HOST/NAME (may be given several
    /// times)
    #[arg(long, value_name = "CACHE")]
    pub cache_to: Vec<String>,
    /// Cache that buildx reads (may be given several times)
    #[arg(long, value_name = "CACHE")]
    pub cache_from: Vec<String>,
    /// Number of compiles at the same time [default: limited by CPU count and memory]
    #[arg(long, short, value_name = "N")]
    pub jobs: Option<NonZero<usize>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BuilderKind {
    /// buildx if an engine is running and has or can pull the builder image, else host
    Auto,
    /// docker buildx
    Buildx,
    /// The Go and Rust of this machine
    Host,
}
