//! Turns the errors of the modules into failures: an exit code, and hints about what to do next.

use std::error::Error;
use std::io;

use crate::assemble::BuildError;
use crate::base::BaseError;
use crate::catalog::{Fault, LoadError, LockError};
use crate::compile::CompileError;
use crate::docker::EngineError;
use crate::documents::DocumentError;
use crate::failure::{Failure, Kind};
use crate::fetch::FetchError;
use crate::layer::LayerError;
use crate::layout::LayoutError;
use crate::lookup::LookupError;
use crate::package::PackageError;
use crate::plan::PlanError;
use crate::push::PushError;
use crate::registry::{AuthError, CredentialsError, RegistryError};
use crate::store::StoreError;
use oci::reference::ReferenceError;

const RELOCK: &str = "run `etcdimg lock` and review the diff";
const FREE_SPACE: &str =
    "free space with `etcdimg cache gc`, or use another disk with `--cache-dir`";
const LOOK_INTO_IT: &str =
    "the file was replaced or the lock is wrong: find out which before you change the lock";

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::new(Kind::Catalog, fault)
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Fault(fault) => fault.into(),
            LoadError::Io { .. } => Self::new(Kind::Catalog, error)
                .hint("run etcdimg in a checkout of its repository, or give one with `-C DIR`"),
        }
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Fault(fault) => fault.into(),
            LockError::Stale { .. } => Self::new(Kind::Catalog, error).hint(RELOCK),
        }
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        let is_unlocked = matches!(error, PlanError::UnlockedRelease(_));
        let failure = Self::new(Kind::Catalog, error);
        if is_unlocked {
            failure.hint("set `origin: release` in the target file and run `etcdimg lock`")
        } else {
            failure
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Advice::about_store(&error).on(error)
    }
}

impl From<LayoutError> for Failure {
    fn from(error: LayoutError) -> Self {
        match error {
            LayoutError::Io { ref source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Self::new(Kind::Io, error).hint(
                    "use another disk with `--out DIR`; the previous content of the layout is still valid",
                )
            }
            LayoutError::Io { .. } => Self::new(Kind::Io, error),
            LayoutError::WrongBlob { .. } => Self::new(Kind::Verification, error),
            _ => Self::new(Kind::Other, error)
                .hint("make a layout with `etcdimg build --out DIR`"),
        }
    }
}

impl From<LayerError> for Failure {
    fn from(error: LayerError) -> Self {
        match error {
            LayerError::Store(error) => error.into(),
            LayerError::Io(_) => Self::new(Kind::Io, error).hint(FREE_SPACE),
            LayerError::Header(_) | LayerError::Short { .. } => Self::new(Kind::Other, error),
        }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        if error.is_wrong_bytes() {
            return Self::new(Kind::Verification, error).hint(LOOK_INTO_IT);
        }
        if let FetchError::Store(error) = error {
            return error.into();
        }
        Self::new(Kind::Unavailable, error)
            .hint("`--mirror URL` adds another source: an https://, http:// or file:// URL with {version} and {file} in it")
            .hint("`--from source` compiles etcd from Go modules instead; a label of the image records it")
    }
}

impl From<LookupError> for Failure {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Disagree { .. } => Self::new(Kind::Verification, error)
                .hint("find out which one is right before you lock it; etcd 3.4.15, for example, was uploaded twice"),
            LookupError::Registry(error) => error.into(),
            _ => Self::new(Kind::Unavailable, error)
                .hint("`--mirror URL` adds another source; it must have SHA256SUMS in the folder of the archives"),
        }
    }
}

impl From<CompileError> for Failure {
    fn from(error: CompileError) -> Self {
        match error {
            CompileError::Store(error) => error.into(),
            CompileError::NoTool { ref tool } if tool == "go" => Self::new(Kind::Compile, error)
                .hint("install Go 1.21 or later; it downloads the exact release of versions.yaml by itself")
                .hint("or leave out `--from source` to use the release archives"),
            CompileError::NoTool { .. } => Self::new(Kind::Compile, error).hint("install Rust from https://rustup.rs"),
            CompileError::WrongRust { ref expected, .. } => {
                let hint = format!("`rustup toolchain install {expected}`, then run the command again; `rust:` in versions.yaml names the release");
                Self::new(Kind::Compile, error).hint(hint)
            }
            CompileError::NoCross { ref triple, ref zig, .. } => {
                let hints = [
                    "`cargo xtask cross` downloads both parts that are needed into the cache, for every platform".to_owned(),
                    format!("by hand: `rustup component add rust-src`, and zig {zig} with cargo-zigbuild on PATH (`pip install ziglang=={zig} cargo-zigbuild`)"),
                    "or use `--builder buildx`, if a Docker engine is running".to_owned(),
                    format!("or, if the program may have other bytes: `rustup target add {triple}`, and a C compiler for it on PATH"),
                ];
                hints.into_iter().fold(Self::new(Kind::Compile, error), Self::hint)
            }
            CompileError::WrongModule { .. } | CompileError::NoToolchain { .. } => {
                Self::new(Kind::Catalog, error).hint(RELOCK)
            }
            CompileError::WrongToolchain { .. } => Self::new(Kind::Verification, error).hint(LOOK_INTO_IT),
            CompileError::Io { .. } => Self::new(Kind::Io, error),
            CompileError::Offline { .. } => {
                Self::new(Kind::Unavailable, error).hint("run `etcdimg fetch` without `--offline`, with the same flags as this build")
            }
            CompileError::OfflineBuildx { .. } => Self::new(Kind::Unavailable, error).hint(
                "use `--builder host` after `etcdimg fetch --from source`",
            ),
            CompileError::SourcesChanged { .. } => {
                Self::new(Kind::Compile, error).hint("nothing of it is kept: run the command again")
            }
            CompileError::Process { .. } | CompileError::NoOutput { .. } => {
                Self::new(Kind::Compile, error)
            }
        }
    }
}

impl From<BaseError> for Failure {
    fn from(error: BaseError) -> Self {
        const OWN: &str = "to use another base, make one from the distribution's busybox: `scripts/busybox-base linux/amd64 FILE`, then `--base busybox=rootfs:FILE@DIGEST`";
        match error {
            BaseError::Store(error) => error.into(),
            BaseError::Layout(error) => error.into(),
            BaseError::Layer(error) => error.into(),
            BaseError::Registry(error) => {
                let failure = Self::from(error);
                // Another base does not help a full disk.
                if failure.kind() == Kind::Io { failure } else { failure.hint(OWN) }
            }
            BaseError::Offline(_) => {
                Self::new(Kind::Unavailable, error).hint("run `etcdimg fetch` without `--offline`")
            }
            BaseError::Io { .. } => Self::new(Kind::Io, error),
            BaseError::NoWindows { .. } => Self::new(Kind::Verification, error)
                .hint("use an image of Nano Server: `--base NAME=REPOSITORY@DIGEST`"),
            BaseError::NoPlatform { .. }
            | BaseError::WrongPlatform { .. }
            | BaseError::Unreadable { .. } => Self::new(Kind::Verification, error).hint(OWN),
        }
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Advice::about(&error).on(error)
    }
}

/// The meaning of an error. Separate from the error, which may be the cause of another one.
struct Advice {
    kind: Kind,
    hint: Option<&'static str>,
}

impl Advice {
    fn about_store(error: &StoreError) -> Self {
        let (kind, hint) = match error {
            StoreError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                (Kind::Io, Some(FREE_SPACE))
            }
            StoreError::Io { .. } => (Kind::Io, None),
            StoreError::Mismatch { .. } => (Kind::Verification, Some(LOOK_INTO_IT)),
            StoreError::Corrupt { .. } => (Kind::Verification, Some("run the command again")),
            StoreError::Missing(_) => {
                (Kind::Unavailable, Some("run `etcdimg fetch` without `--offline`"))
            }
        };
        Self { kind, hint }
    }

    fn about(error: &RegistryError) -> Self {
        const LOGIN: &str = "log in with `docker login REGISTRY` or `podman login REGISTRY`, or use `--username USER --password-stdin`";
        let advice = |kind, hint| Self { kind, hint };
        if let RegistryError::Auth { source: AuthError::Credentials(_), .. } = error {
            return advice(Kind::Other, None);
        }
        match error {
            RegistryError::Fetch(FetchError::Store(error)) => return Self::about_store(error),
            RegistryError::Fetch(error) if error.is_wrong_bytes() => {
                let hint = "the registry, or a proxy in front of it, sent bytes that do not match their digest: tell its operator";
                return advice(Kind::Verification, Some(hint));
            }
            _ => {}
        }
        if error.is_denied() {
            return advice(Kind::Unavailable, Some(LOGIN));
        }
        if error.is_wrong_bytes() {
            let hint = "check the layout with `etcdimg verify`";
            return advice(Kind::Verification, Some(hint));
        }
        if error.is_local() {
            return advice(Kind::Io, None);
        }
        let hint = "run the command again: it continues where it stopped";
        advice(Kind::Unavailable, Some(hint))
    }

    fn on(self, error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        self.hint.into_iter().fold(Failure::new(self.kind, error), Failure::hint)
    }
}

/// The meaning of the error that stopped a push after its first tag.
fn reason(error: &PushError) -> Advice {
    match error {
        PushError::PartlyTagged { source, .. } | PushError::TagUnknown { source, .. } => {
            reason(source)
        }
        PushError::Registry(error) | PushError::Documents(DocumentError::Registry(error)) => {
            Advice::about(error)
        }
        PushError::Taken { .. } => {
            let hint = "`--force` moves the tag to this image";
            Advice { kind: Kind::Taken, hint: Some(hint) }
        }
        _ => Advice { kind: Kind::Other, hint: None },
    }
}

impl From<PushError> for Failure {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Registry(error) | PushError::Documents(DocumentError::Registry(error)) => {
                let needs_hint = !error.is_denied() && !error.is_local();
                let failure = Self::from(error);
                if needs_hint { failure.hint("no tag has moved") } else { failure }
            }
            PushError::PartlyTagged { .. } | PushError::TagUnknown { .. } => {
                reason(&error).on(error)
            }
            PushError::Layout(error) => error.into(),
            PushError::Taken { next: Some(ref next), .. } => {
                let revision = next.rsplit_once('-').map_or("", |(_, revision)| revision);
                let hint = format!(
                    "the next free tag is {next}: set `revision: {revision}` in versions.yaml and build again"
                );
                Self::new(Kind::Taken, error)
                    .hint(hint)
                    .hint("`--force` moves the tag to this image")
            }
            PushError::Taken { .. } => {
                Self::new(Kind::Taken, error).hint("`--force` moves the tag to this image")
            }
            PushError::NoPlatform(_) => Self::new(Kind::Other, error)
                .hint("`etcdimg build --platform OS/ARCH` adds it to the layout"),
            PushError::Tag(_) => Self::new(Kind::Other, error),
            PushError::Documents(error) => error.into(),
        }
    }
}

impl From<DocumentError> for Failure {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::Registry(error) => error.into(),
            DocumentError::Layout(error) => error.into(),
            DocumentError::NotFound(_) => Self::new(Kind::Unavailable, error),
            DocumentError::Invalid { .. }
            | DocumentError::Descriptor(_)
            | DocumentError::MissingBlob(_) => Self::new(Kind::Verification, error).hint(
                "run `etcdimg verify` to see what is wrong with the layout, then build it again",
            ),
        }
    }
}

impl From<CredentialsError> for Failure {
    fn from(error: CredentialsError) -> Self {
        Self::new(Kind::Other, error)
    }
}

impl From<ReferenceError> for Failure {
    fn from(error: ReferenceError) -> Self {
        Self::new(Kind::Other, error)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::new(Kind::Unavailable, error)
            .hint("start a Docker engine, or give its address in DOCKER_HOST")
            .hint("or use `--output docker-archive:FILE`, and `docker load -i FILE` later")
    }
}

impl From<PackageError> for Failure {
    fn from(error: PackageError) -> Self {
        match error {
            PackageError::Store(error) => error.into(),
            PackageError::Writer(error) => error.into(),
            PackageError::Io { .. } => Self::new(Kind::Io, error)
                .hint("use another folder with `--out DIR`; no file was left half written"),
            PackageError::NoArchitecture(_) => Self::new(Kind::Other, error)
                .hint("name a platform of Linux: `--platform linux/arm64`"),
            PackageError::Layer { .. } => Self::new(Kind::Verification, error).hint(
                "`etcdimg cache verify` removes what was damaged; then run the command again",
            ),
            PackageError::Missing(_) => Self::new(Kind::Other, error),
        }
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Fetch(error) => error.into(),
            BuildError::Compile(error) => error.into(),
            BuildError::Layer(error) => error.into(),
            BuildError::Base(error) => error.into(),
            BuildError::Layout(error) => error.into(),
            BuildError::Store(error) => error.into(),
            BuildError::Offline(_) => Self::new(Kind::Unavailable, error).hint("run `etcdimg fetch` without `--offline`"),
            BuildError::Archive(_) => Self::new(Kind::Verification, error).hint(LOOK_INTO_IT),
            BuildError::NoProgram(_) => Self::new(Kind::Other, error),
            BuildError::WrongProgram(_) => Self::new(Kind::Verification, error)
                .hint("nothing was written; compare `commit` and `go` in versions.yaml with the release of the etcd project"),
        }
    }
}

#[cfg(test)]
#[path = "failures_tests/mod.rs"]
mod tests;
