//! Registries and their images: the arguments of push, copy and promote, and how a registry is
//! reached.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::build::{BasesArgs, ChoiceArgs, CompileArgs};
use super::trust::TrustArgs;
use super::value::linux;
use crate::platform::Platform;

#[derive(Clone, Debug, Args)]
pub struct PushArgs {
    /// Folders of OCI image layouts, each with a tag if it has several images. Several layouts are
    /// joined into one index
    #[arg(value_name = "LAYOUT[:TAG]", default_value = "dist")]
    pub layout: Vec<String>,
    /// Architecture of a Linux image, for example arm64 (may be given several times)
    #[arg(long, value_name = "ARCH", env = "ARCH", value_delimiter = ',', value_parser = linux)]
    pub arch: Vec<Option<Platform>>,
    /// Push only this platform, under its platform tag and without the index (may be given several
    /// times)
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Vec<Platform>,
    #[command(flatten)]
    pub destination: DestinationArgs,
}

impl PushArgs {
    /// The platforms that `--platform` and `--arch` name.
    pub fn platforms(&self) -> Vec<Platform> {
        self.platform.iter().chain(self.arch.iter().flatten()).cloned().collect()
    }
}

#[derive(Clone, Debug, Args)]
pub struct AllPushArgs {
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// Folder of the OCI image layout; images with other tags in it are kept
    #[arg(long, short, value_name = "DIR", default_value = "dist")]
    pub out: PathBuf,
    #[command(flatten)]
    pub compile: CompileArgs,
    #[command(flatten)]
    pub bases: BasesArgs,
    #[command(flatten)]
    pub destination: DestinationArgs,
}

/// The registries, repository and tags to push to.
#[derive(Clone, Debug, Args)]
pub struct DestinationArgs {
    /// Registry, with the path before the repository if there is one, for example
    /// registry.example/team (may be given several times; REGISTRY is a fallback, too)
    #[arg(long, value_name = "REGISTRY", env = "PUSH_REGISTRY", value_delimiter = ',')]
    pub registry: Vec<String>,
    /// Name of the repository [default: what versions.yaml says, or etcd]
    #[arg(long, value_name = "NAME")]
    pub repository: Option<String>,
    /// Additional tag (may be given several times)
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// Add a tag for each platform: TAG-linux-ARCH, TAG-windows-amd64-RELEASE
    #[arg(long)]
    pub platform_tags: bool,
    /// Overwrite tags that name another image [default: refuse]
    #[arg(long)]
    pub force: bool,
    /// Only print what would be pushed; reads the registry and changes nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Mount blobs from this repository if it is in the same registry (may be given several times)
    #[arg(long, value_name = "REPOSITORY", value_delimiter = ',')]
    pub mount_from: Vec<String>,
    /// Media types of the manifests
    #[arg(long, value_name = "KIND", default_value = "oci")]
    pub media_types: MediaTypes,
    #[command(flatten)]
    pub access: AccessArgs,
}

/// How registries are reached, and with which login.
#[derive(Clone, Debug, Default, Args)]
pub struct AccessArgs {
    /// User name at the registry [default: the login of `docker login` or `podman login`]
    #[arg(long, value_name = "USER", requires = "password_stdin")]
    pub username: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    pub password_stdin: bool,
    #[command(flatten)]
    pub trust: TrustArgs,
}

#[derive(Clone, Debug, Args)]
pub struct CopyArgs {
    /// The image to copy: REPOSITORY:TAG, REPOSITORY@DIGEST or both
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// REPOSITORY or REPOSITORY:TAG to copy to; without a tag, that of the source
    #[arg(value_name = "DESTINATION")]
    pub destination: String,
    /// Overwrite a tag that names another image [default: refuse]
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub access: AccessArgs,
}

#[derive(Clone, Debug, Args)]
pub struct PromoteArgs {
    /// The released image: REPOSITORY:TAG, or the folder of a layout
    #[arg(value_name = "REFERENCE", default_value = "dist")]
    pub reference: String,
    /// Print the entry for the promoter's list, and other files that name the version (the only
    /// mode, so this flag is required)
    #[arg(long, required = true)]
    pub list: bool,
    #[command(flatten)]
    pub access: AccessArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MediaTypes {
    /// OCI, as they were built
    Oci,
    /// Docker's image manifest version 2, schema 2, for old clients and registries
    Docker,
}
