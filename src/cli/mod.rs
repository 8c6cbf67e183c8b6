//! The command line: what may be typed. Its help is the reference of every command.

use std::num::NonZero;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use etcd_version::ImageTag;

use crate::acceptance::Suite;
use crate::catalog::Mirror;
use crate::manifests;
use crate::platform::Platform;
use crate::ui::ProgressMode;

mod build;
mod package;
mod push;
mod trust;
mod value;

pub use build::{BasesArgs, BuildArgs, BuilderKind, ChoiceArgs, CompileArgs};
pub use package::PackageArgs;
pub use push::{
    AccessArgs, AllPushArgs, CopyArgs, DestinationArgs, MediaTypes, PromoteArgs, PushArgs,
};
pub use trust::TrustArgs;
use value::{kinds, linux_platform, mirror, progress_modes, report, suites};

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  an error that has no code of its own
  2  the command line is wrong
  3  versions.yaml, targets/ or etcdimg.lock is wrong, or the lock is stale
  4  wrong bytes: a digest, an archive or a program is not the expected one
  5  an input or a service cannot be reached
  6  a compiler failed or is missing
  7  a file cannot be read or written (full disk, no permission)
  8  a tag already names another image
  9  an acceptance test of an image failed";

/// Build, test and release the etcd image that can move its own data
#[derive(Debug, Parser)]
#[command(name = "etcdimg", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub global: Global,
}

/// The flags of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Folder with versions.yaml, targets/ and etcdimg.lock
    #[arg(long, short = 'C', value_name = "DIR", default_value = ".", global = true)]
    pub directory: PathBuf,
    /// Cache of downloads, compiled programs and layers [default: ~/.cache/etcdimg]
    #[arg(long, value_name = "DIR", env = "ETCDIMG_CACHE", global = true)]
    pub cache_dir: Option<PathBuf>,
    /// Do not use the network; fail if an input is not cached
    #[arg(long, global = true)]
    pub offline: bool,
    /// Output format on stdout
    #[arg(long, value_name = "FORMAT", default_value = "text", global = true)]
    pub format: Format,
    /// Print every external command
    #[arg(long, short, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Print only warnings and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// How progress is shown on stderr
    #[arg(long, value_name = "MODE", default_value = "auto", global = true, value_parser = progress_modes())]
    pub progress: ProgressMode,
}

/// The format of stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for people
    Text,
    /// JSON for programs
    Json,
    /// `strategy.matrix` of a GitHub workflow; only for `plan`, text for other commands
    GithubMatrix,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print what would be built and from which inputs; changes nothing
    Plan(ChoiceArgs),
    /// Look up the digest of every input and write it into etcdimg.lock
    Lock(LockArgs),
    /// Download every input of the plan into the cache, so that --offline works afterwards
    Fetch(FetchArgs),
    /// Build images into an OCI image layout; the default is linux/amd64
    Build(BuildArgs),
    /// Build the images of all default targets into an OCI image layout
    AllBuild(BuildArgs),
    /// Write packages of migrate and its programs for hosts: .deb and .tar.gz
    Package(PackageArgs),
    /// Push an image from a layout: blobs, manifests, the index, and the tags at the end
    Push(PushArgs),
    /// Build the images of all default targets, as all-build does, then push them
    AllPush(AllPushArgs),
    /// Copy an image from registry to registry, with all platforms, signatures and other referrers
    Copy(CopyArgs),
    /// Print the changes in other repositories that promote a released image
    Promote(PromoteArgs),
    /// Check a layout: every digest, size, diff ID and platform, and every program
    Verify(VerifyArgs),
    /// Run the acceptance suites against an image
    Test(TestArgs),
    /// Print Kubernetes manifests that run the image
    Manifests(ManifestsArgs),
    /// List, check or clean the cache
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page
    Man,
}

#[derive(Clone, Debug, Args)]
pub struct FetchArgs {
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// Download only these inputs (may be given several times) [default: all]
    #[arg(long, value_name = "INPUT")]
    pub only: Vec<Input>,
    #[command(flatten)]
    pub trust: TrustArgs,
}

/// The kinds of inputs of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Input {
    /// Release archives of etcd
    Releases,
    /// Go modules, Go toolchains and crates
    Modules,
    /// Base images
    Bases,
}

#[derive(Clone, Debug, Args)]
pub struct LockArgs {
    /// Only check: fail if the lock is stale, and change nothing
    #[arg(long)]
    pub check: bool,
    /// Look up digests again that are already locked
    #[arg(long, conflicts_with = "check")]
    pub refresh: bool,
    /// Try this URL before the mirrors of versions.yaml
    #[arg(long, value_name = "URL", value_parser = mirror)]
    pub mirror: Vec<Mirror>,
    /// Also lock Go's toolchain for this host, for a builder node of another platform, for example
    /// linux-arm64 (may be given several times)
    #[arg(long, value_name = "OS-ARCH", conflicts_with = "check")]
    pub go_host: Vec<String>,
    #[command(flatten)]
    pub trust: TrustArgs,
}

#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// Folder of an OCI image layout, or REPOSITORY:TAG, REPOSITORY@DIGEST in a registry
    #[arg(value_name = "LAYOUT or REFERENCE", default_value = "dist")]
    pub place: String,
    /// Accept a layout of `build --sparse`, where layers of Windows bases may be missing
    #[arg(long)]
    pub sparse: bool,
    #[command(flatten)]
    pub access: AccessArgs,
}

#[derive(Clone, Debug, Args)]
pub struct ManifestsArgs {
    /// Manifests to print (may be given several times) [default with --out: all]
    #[arg(long, value_name = "KIND", required_unless_present = "out", value_parser = kinds())]
    pub kind: Vec<manifests::ManifestKind>,
    /// Tag of the image; data is migrated to its etcd version [default: the tag of versions.yaml]
    #[arg(long, value_name = "TAG")]
    pub tag: Option<ImageTag>,
    /// Repository of the image
    #[arg(long, value_name = "REPOSITORY", default_value = "registry.example.com/etcd")]
    pub image: String,
    /// Write files into this folder instead, one for each kind
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct TestArgs {
    /// Folder of an OCI image layout, or REPOSITORY:TAG, REPOSITORY@DIGEST in a registry
    #[arg(value_name = "LAYOUT or REFERENCE", default_value = "dist")]
    pub place: String,
    /// Tag in the layout; required if it has several images
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
    /// Architecture of the Linux image
    #[arg(long, value_name = "ARCH", default_value = "amd64", value_parser = linux_platform)]
    pub arch: Platform,
    /// Run only these suites (may be given several times) [default: all]
    #[arg(long, value_name = "SUITE", value_parser = suites())]
    pub suite: Vec<Suite>,
    /// Run only these cases, named as in --list (may be given several times)
    #[arg(long, value_name = "CASE")]
    pub case: Vec<String>,
    /// Print the suites and cases, and run nothing
    #[arg(long)]
    pub list: bool,
    /// What runs the image
    #[arg(long, value_name = "RUNTIME", default_value = "auto")]
    pub runtime: RuntimeChoice,
    /// Fail if a case of this suite is skipped (may be given several times)
    #[arg(long, value_name = "SUITE", value_parser = suites())]
    pub require: Vec<Suite>,
    /// Also write the results to FILE.xml (JUnit) or FILE.html (may be given several times)
    #[arg(long, value_name = "FILE", value_parser = report)]
    pub report: Vec<PathBuf>,
    /// The last release: fail if a part of the image is more than 10 % larger
    #[arg(long, value_name = "LAYOUT or REFERENCE")]
    pub against: Option<String>,
    /// Number of cases at the same time [default: the CPU count]
    #[arg(long, short, value_name = "N")]
    pub jobs: Option<NonZero<usize>>,
    #[command(flatten)]
    pub access: AccessArgs,
}

/// What runs the image under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RuntimeChoice {
    /// A Docker engine if one is running, else namespaces of this machine
    Auto,
    /// The Docker engine that DOCKER_HOST names, or the local one
    Docker,
    /// Namespaces of this machine, without an engine (Linux only)
    Rootfs,
}

#[derive(Clone, Debug, Subcommand)]
pub enum CacheCommand {
    /// List all blobs with their sizes
    Ls,
    /// Hash all blobs again and remove those that do not match their digest
    Verify,
    /// Remove files that no build has used for a while, and leftovers of killed processes
    Gc {
        /// Remove files that were not used for this many days
        #[arg(long, value_name = "DAYS", default_value_t = 30)]
        unused_days: u64,
        /// Remove everything
        #[arg(long)]
        all: bool,
    },
}
