//! The command line: what may be typed. Its help is the reference of every command.

use std::num::NonZero;
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use etcd_version::ImageTag;

use crate::acceptance::Suite;
use crate::catalog::{Mirror, Origin};
use crate::digest::Digest;
use crate::layer::format::Compression;
use crate::manifests;
use crate::plan::BaseOverride;
use crate::platform::Platform;
use crate::ui::ProgressMode;

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
    #[arg(long, value_name = "MODE", default_value = "auto", global = true)]
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
    #[arg(long, value_name = "ORIGIN")]
    pub from: Option<Origin>,
    /// Try this URL before the mirrors of versions.yaml; {version} and {file} in it are replaced
    #[arg(long, value_name = "URL", value_parser = mirror)]
    pub mirror: Vec<Mirror>,
    /// Use another base image: NAME=rootfs:FILE@DIGEST, NAME=oci:DIR@DIGEST or NAME=REPOSITORY@DIGEST
    #[arg(long, value_name = "NAME=SOURCE@DIGEST")]
    pub base: Vec<BaseOverride>,
    /// Compression of the layers
    #[arg(long, value_name = "KIND", default_value = "gzip")]
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
    /// Cache that buildx writes, for example type=registry,ref=HOST/NAME (may be given several times)
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
    pub delivery: DeliveryArgs,
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
    pub delivery: DeliveryArgs,
}

/// The registries, repository and tags to push to.
#[derive(Clone, Debug, Args)]
pub struct DeliveryArgs {
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

/// Whose certificates are accepted.
#[derive(Clone, Debug, Default, Args)]
pub struct TrustArgs {
    /// PEM file with additional trusted certificate authorities
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Registry whose certificate is not verified, or that has no TLS (may be given several times)
    #[arg(long, value_name = "HOST[:PORT]")]
    pub insecure_registry: Vec<String>,
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

fn kinds() -> impl TypedValueParser<Value = manifests::Kind> {
    let all = manifests::Kind::ALL;
    let all = all.map(|kind| PossibleValue::new(kind.name()).help(kind.summary()));
    PossibleValuesParser::new(all).try_map(|name| name.parse())
}

fn suites() -> impl TypedValueParser<Value = Suite> {
    let all = Suite::ALL.map(|suite| PossibleValue::new(suite.name()).help(suite.summary()));
    PossibleValuesParser::new(all).try_map(|name| name.parse())
}

#[derive(Clone, Debug, Args)]
pub struct ManifestsArgs {
    /// Manifests to print (may be given several times) [default with --out: all]
    #[arg(long, value_name = "KIND", required_unless_present = "out", value_parser = kinds())]
    pub kind: Vec<manifests::Kind>,
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

/// The Linux platform of an architecture. An empty `ARCH` of the environment means none.
fn linux(arch: &str) -> Result<Option<Platform>, ArgumentError> {
    (!arch.is_empty()).then(|| linux_platform(arch)).transpose()
}

fn linux_platform(arch: &str) -> Result<Platform, ArgumentError> {
    let platform = format!("linux/{arch}").parse();
    platform.map_err(|_| ArgumentError("use amd64, arm, arm64, ppc64le, riscv64 or s390x"))
}

fn mirror(text: &str) -> Result<Mirror, ArgumentError> {
    Mirror::parse(text).ok_or(ArgumentError("use an https://, http:// or file:// URL"))
}

fn report(text: &str) -> Result<PathBuf, ArgumentError> {
    let path = PathBuf::from(text);
    let is_known = path.extension().is_some_and(|kind| kind == "xml" || kind == "html");
    is_known.then_some(path).ok_or(ArgumentError("use a file name that ends in .xml or .html"))
}

fn pinned_image(text: &str) -> Result<String, ArgumentError> {
    let digest = text.rsplit_once('@').filter(|(name, _)| !name.is_empty()).map(|(_, it)| it);
    let is_pinned = digest.is_some_and(|it| it.parse::<Digest>().is_ok());
    let error = ArgumentError("use IMAGE@sha256:…: an image is an input, so it must be pinned");
    is_pinned.then(|| text.to_owned()).ok_or(error)
}

fn docker_archive(text: &str) -> Result<PathBuf, ArgumentError> {
    let file = text.strip_prefix("docker-archive:").filter(|file| !file.is_empty());
    file.map(PathBuf::from).ok_or(ArgumentError("use docker-archive:FILE"))
}

/// What to write instead of a wrong value.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0}")]
struct ArgumentError(&'static str);
