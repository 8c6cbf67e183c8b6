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
  1  something went wrong that has no code of its own
  2  the command line is wrong
  3  versions.yaml, targets/ or etcdimg.lock is wrong, or the lock is stale
  4  bytes are not what they should be: a digest, an archive, a program
  5  an input or a service cannot be reached
  6  a compiler failed or is missing
  7  the file system said no (full disk, no permission)
  8  a tag names another image already
  9  a tested image does not do what it promises";

/// Build, test and release the etcd image that can move its own data
#[derive(Debug, Parser)]
#[command(name = "etcdimg", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub global: Global,
}

#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Folder with versions.yaml, targets/ and etcdimg.lock
    #[arg(long, short = 'C', value_name = "DIR", default_value = ".", global = true)]
    pub directory: PathBuf,
    /// Where downloads, compiled programs and layers are kept [default: ~/.cache/etcdimg]
    #[arg(long, value_name = "DIR", env = "ETCDIMG_CACHE", global = true)]
    pub cache_dir: Option<PathBuf>,
    /// Open no connection; what is not in the cache is an error
    #[arg(long, global = true)]
    pub offline: bool,
    /// What standard output is for
    #[arg(long, value_name = "FORMAT", default_value = "text", global = true)]
    pub format: Format,
    /// Also say every command that is run
    #[arg(long, short, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Say nothing but errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Bars on a terminal, lines elsewhere, or nothing
    #[arg(long, value_name = "MODE", default_value = "auto", global = true)]
    pub progress: ProgressMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
    /// For a workflow's `strategy.matrix` (plan only)
    GithubMatrix,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print what would be built, from which inputs; touches nothing
    Plan(ChoiceArgs),
    /// Look up and pin every input in etcdimg.lock
    Lock(LockArgs),
    /// Bring every input of the plan into the cache, so that --offline works afterwards
    Fetch(FetchArgs),
    /// Build an image into an OCI image layout, for linux/amd64 unless told otherwise
    Build(BuildArgs),
    /// Build the images of every default target into an OCI image layout
    AllBuild(BuildArgs),
    /// Push an image from a layout: blobs, manifests, the index, and the tags last
    Push(PushArgs),
    /// Build what is missing of every default target, then push all of it
    AllPush(AllPushArgs),
    /// Copy an image with all its platforms and what refers to it, from registry to registry
    Copy(CopyArgs),
    /// Print what a release changes downstream, for those who promote it
    Promote(PromoteArgs),
    /// Derive every digest, size, diff ID and platform of a layout again and look into every program
    Verify(VerifyArgs),
    /// Run the acceptance suites against a built image, the way its users will run it
    Test(TestArgs),
    /// Print Kubernetes manifests that run the image
    Manifests(ManifestsArgs),
    /// List, verify or clean the cache
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

/// What to build; the same for plan, fetch and build, so that they mean the same thing.
#[derive(Clone, Debug, Args)]
pub struct ChoiceArgs {
    /// Architecture of a Linux image, for example arm64 (may be given several times)
    #[arg(long, value_name = "ARCH", env = "ARCH", value_delimiter = ',', value_parser = linux)]
    pub arch: Vec<Option<Platform>>,
    /// Platform, for example linux/arm/v7 or windows/amd64:ltsc2022 (may be given several times)
    #[arg(long, value_name = "OS/ARCH[:OSVERSION]")]
    pub platform: Vec<Platform>,
    /// Take etcd from its release archives or compile it, instead of what the target says
    #[arg(long, value_name = "ORIGIN")]
    pub from: Option<Origin>,
    /// Ask this URL before the mirrors of versions.yaml; {version} and {file} in it are replaced
    #[arg(long, value_name = "URL", value_parser = mirror)]
    pub mirror: Vec<Mirror>,
    /// Use another base: NAME=rootfs:FILE@DIGEST, NAME=oci:DIR@DIGEST or NAME=REPOSITORY@DIGEST
    #[arg(long, value_name = "NAME=SOURCE@DIGEST")]
    pub base: Vec<BaseOverride>,
    /// How layers are compressed
    #[arg(long, value_name = "KIND", default_value = "gzip")]
    pub compression: Compression,
    /// Seconds since 1970 that stand wherever an image has a time
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
    /// Folder of the OCI image layout; what it holds under other tags stays
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

/// How much of the bases is needed here.
#[derive(Clone, Debug, Args)]
pub struct BasesArgs {
    /// Leave layers of Windows bases in their registry: whoever pushes fetches those that the
    /// destination lacks
    #[arg(long)]
    pub sparse: bool,
}

/// What compiles, where something has to be compiled. The result is the same.
#[derive(Clone, Debug, Args)]
pub struct CompileArgs {
    /// Compile by docker buildx, or with the toolchains of this machine
    #[arg(long, value_name = "BUILDER", default_value = "auto")]
    pub builder: BuilderKind,
    /// Compile in this image instead of the locked `builder` of versions.yaml
    #[arg(long, value_name = "IMAGE@DIGEST", value_parser = pinned_image)]
    pub builder_image: Option<String>,
    /// Use this builder of buildx: a remote BuildKit, a Kubernetes driver, several nodes
    #[arg(long, value_name = "NAME")]
    pub buildx_builder: Option<String>,
    /// Where buildx keeps its cache, for example type=registry,ref=HOST/NAME (may be given several times)
    #[arg(long, value_name = "CACHE")]
    pub cache_to: Vec<String>,
    /// Where buildx finds a cache (may be given several times)
    #[arg(long, value_name = "CACHE")]
    pub cache_from: Vec<String>,
    /// How many compiles may run at once [default: what this machine's cores and memory bear]; a
    /// builder of several nodes takes more
    #[arg(long, short, value_name = "N")]
    pub jobs: Option<NonZero<usize>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BuilderKind {
    /// buildx where an engine answers and has or gets the builder image, else host
    Auto,
    /// docker buildx
    Buildx,
    /// Go and Rust of this machine
    Host,
}

#[derive(Clone, Debug, Args)]
pub struct PushArgs {
    /// Folders of OCI image layouts, and the image's tag where one holds several. Several layouts
    /// are joined into one index
    #[arg(value_name = "LAYOUT[:TAG]", default_value = "dist")]
    pub layout: Vec<String>,
    /// Architecture of a Linux image, for example arm64 (may be given several times)
    #[arg(long, value_name = "ARCH", env = "ARCH", value_delimiter = ',', value_parser = linux)]
    pub arch: Vec<Option<Platform>>,
    /// Push only this platform, with its own tag and without the index (may be given several times)
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
    /// Folder of the OCI image layout; what it holds under other tags stays
    #[arg(long, short, value_name = "DIR", default_value = "dist")]
    pub out: PathBuf,
    #[command(flatten)]
    pub compile: CompileArgs,
    #[command(flatten)]
    pub bases: BasesArgs,
    #[command(flatten)]
    pub delivery: DeliveryArgs,
}

/// Where to, and under which names.
#[derive(Clone, Debug, Args)]
pub struct DeliveryArgs {
    /// Registry, with the path before the repository if there is one, for example
    /// registry.example/team (may be given several times; REGISTRY is a fallback, too)
    #[arg(long, value_name = "REGISTRY", env = "PUSH_REGISTRY", value_delimiter = ',')]
    pub registry: Vec<String>,
    /// Name of the repository [default: what versions.yaml says, or etcd]
    #[arg(long, value_name = "NAME")]
    pub repository: Option<String>,
    /// Also tag it so (may be given several times)
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// Also tag each platform: TAG-linux-ARCH, TAG-windows-amd64-RELEASE
    #[arg(long)]
    pub platform_tags: bool,
    /// Take tags from other images; without it a tag that is there is never moved
    #[arg(long)]
    pub force: bool,
    /// Ask what is there and say what would move, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Mount blobs from this repository if it is in the same registry (may be given several times)
    #[arg(long, value_name = "REPOSITORY", value_delimiter = ',')]
    pub mount_from: Vec<String>,
    /// Media types of the manifests; those of Docker for clients and registries that know no others
    #[arg(long, value_name = "KIND", default_value = "oci")]
    pub media_types: MediaTypes,
    #[command(flatten)]
    pub access: AccessArgs,
}

/// How registries are reached, and who we are there.
#[derive(Clone, Debug, Default, Args)]
pub struct AccessArgs {
    /// User at the registry, instead of what `docker login` or `podman login` left
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
    /// Also trust the authorities in this PEM file
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Accept any certificate of this registry, or none at all (may be given several times)
    #[arg(long, value_name = "HOST[:PORT]")]
    pub insecure_registry: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub struct CopyArgs {
    /// What to copy: REPOSITORY:TAG, REPOSITORY@DIGEST or both
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// Where to: REPOSITORY or REPOSITORY:TAG; the tag of the source unless told otherwise
    #[arg(value_name = "DESTINATION")]
    pub destination: String,
    /// Take the tag from another image; without it a tag that is there is never moved
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub access: AccessArgs,
}

#[derive(Clone, Debug, Args)]
pub struct PromoteArgs {
    /// What was released: REPOSITORY:TAG, or the folder of a layout
    #[arg(value_name = "REFERENCE", default_value = "dist")]
    pub reference: String,
    /// Print the entry of the promoter's list, and the other places that name the version
    #[arg(long, required = true)]
    pub list: bool,
    #[command(flatten)]
    pub access: AccessArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MediaTypes {
    /// As they were built
    Oci,
    /// Docker's image manifest version 2, schema 2
    Docker,
}

#[derive(Clone, Debug, Args)]
pub struct FetchArgs {
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// Only these inputs (may be given several times)
    #[arg(long, value_name = "INPUT")]
    pub only: Vec<Input>,
    #[command(flatten)]
    pub trust: TrustArgs,
}

/// The kinds of inputs that a plan has.
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
    /// Look up nothing and change nothing; fail when the lock is stale
    #[arg(long)]
    pub check: bool,
    /// Ask again for digests that are locked already
    #[arg(long, conflicts_with = "check")]
    pub refresh: bool,
    /// Ask this URL before the mirrors of versions.yaml
    #[arg(long, value_name = "URL", value_parser = mirror)]
    pub mirror: Vec<Mirror>,
    /// Lock the sums of Go for this host too, where a node of a builder runs, for example
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
    /// Accept a layout that `build --sparse` made: layers of Windows bases may be missing
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
    /// What to print (may be given several times) [default with --out: everything]
    #[arg(long, value_name = "KIND", required_unless_present = "out", value_parser = kinds())]
    pub kind: Vec<manifests::Kind>,
    /// Tag of the image; its etcd version is what data is migrated to [default: that of versions.yaml]
    #[arg(long, value_name = "TAG")]
    pub tag: Option<ImageTag>,
    /// Repository of the image
    #[arg(long, value_name = "REPOSITORY", default_value = "registry.example.com/etcd")]
    pub image: String,
    /// Write one file for each instead, into this folder
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct TestArgs {
    /// Folder of an OCI image layout, or REPOSITORY:TAG, REPOSITORY@DIGEST in a registry
    #[arg(value_name = "LAYOUT or REFERENCE", default_value = "dist")]
    pub place: String,
    /// Tag in the layout; needed when it holds several
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
    /// Architecture of the Linux image
    #[arg(long, value_name = "ARCH", default_value = "amd64", value_parser = linux_platform)]
    pub arch: Platform,
    /// Only these suites (may be given several times) [default: all]
    #[arg(long, value_name = "SUITE", value_parser = suites())]
    pub suite: Vec<Suite>,
    /// Only these cases, as --list shows them (may be given several times)
    #[arg(long, value_name = "CASE")]
    pub case: Vec<String>,
    /// Print suites and cases and run nothing
    #[arg(long)]
    pub list: bool,
    /// What runs the image
    #[arg(long, value_name = "RUNTIME", default_value = "auto")]
    pub runtime: RuntimeChoice,
    /// A case of this suite that is skipped is a failure (may be given several times)
    #[arg(long, value_name = "SUITE", value_parser = suites())]
    pub require: Vec<Suite>,
    /// Also write the results: FILE.xml for JUnit, FILE.html to look at (may be given several times)
    #[arg(long, value_name = "FILE", value_parser = report)]
    pub report: Vec<PathBuf>,
    /// The last release, which no part of the image may exceed by more than a tenth
    #[arg(long, value_name = "LAYOUT or REFERENCE")]
    pub against: Option<String>,
    /// Cases at a time [default: as many as there are cores]
    #[arg(long, short, value_name = "N")]
    pub jobs: Option<NonZero<usize>>,
    #[command(flatten)]
    pub access: AccessArgs,
}

/// What runs the image under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RuntimeChoice {
    /// A Docker engine if one answers, else this machine's namespaces
    Auto,
    /// The Docker engine that DOCKER_HOST names, or the local one
    Docker,
    /// The image's files in namespaces of this machine: Linux only
    Rootfs,
}

#[derive(Clone, Debug, Subcommand)]
pub enum CacheCommand {
    /// List all blobs with their sizes
    Ls,
    /// Hash all blobs again and remove those that are not what their name says
    Verify,
    /// Remove what no build has used for a while, and what killed processes left
    Gc {
        /// How long something must be unused
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
