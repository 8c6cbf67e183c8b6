//! The folder in which cargo compiles.
//!
//! Cargo mixes the place of a crate, relative to the workspace, into the names of symbols, and
//! these decide the order of functions. So the workspace and the sources of the standard library
//! are linked into one folder, where they are always at the same place relative to each other.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::super::error::CompileError;
use super::super::options::CompileOptions;
use super::super::recipe::{BUILDER_ROOT, BUILDER_WORK};
use super::RECIPE;
use super::cross::{Cross, Library};
use super::wrapper::{self, MachineFolders};
use crate::plan::WorkspaceSource;

/// The folder for one triple.
pub(super) struct CompileFolder {
    /// The workspace, by links.
    pub root: PathBuf,
    /// `CARGO_TARGET_DIR`
    pub target: PathBuf,
    /// `CARGO_HOME`, if it is not the user's own one.
    pub cargo_home: Option<PathBuf>,
}

/// The recipe as part of a name.
pub(super) fn recipe() -> String {
    RECIPE.replace(' ', "-")
}

impl CompileFolder {
    /// Below a cache of this machine.
    pub(super) fn at(work: &Path, source: &WorkspaceSource) -> Self {
        let folder = work.join("migrate").join(recipe()).join(&source.triple);
        Self { root: folder.join("stage"), target: folder.join("target"), cargo_home: None }
    }

    /// Inside of a builder, which has a cargo home of its own.
    pub(super) fn in_builder(source: &WorkspaceSource) -> Self {
        let work = Path::new(BUILDER_WORK);
        Self { cargo_home: Some(work.join("cargo")), ..Self::at(work, source) }
    }

    /// The program that cargo compiles here.
    pub(super) fn program(&self, source: &WorkspaceSource) -> PathBuf {
        let suffix = if source.platform.is_windows() { ".exe" } else { "" };
        self.target.join(&source.triple).join(format!("image/migrate{suffix}"))
    }

    /// The path of the script that is started instead of rustc.
    pub(super) fn wrapper(&self) -> PathBuf {
        self.root.join(wrapper::NAME)
    }

    /// The text of that script.
    pub(super) fn wrapper_text(&self, rustup_home: &Path, cargo_home: &Path) -> String {
        let Self { root, target, .. } = self;
        wrapper::script(&MachineFolders { rustup_home, cargo_home, target, root })
    }

    /// Puts everything into the folder.
    pub(super) fn write(
        &self,
        options: &CompileOptions,
        cross: &Cross,
    ) -> Result<(), CompileError> {
        fs::create_dir_all(&self.root).map_err(CompileError::io(&self.root))?;
        for name in ["Cargo.lock", "Cargo.toml", "crates", "src", "tests"] {
            self.link(name, &options.root.join(name))?;
        }
        if let Library::Sources(library) = &cross.library {
            self.link("library", library)?;
        }
        let home = |variable: &str, fallback: &str| {
            let value = |name: &str| options.environment.get(name).map(PathBuf::from);
            value(variable).unwrap_or_else(|| value("HOME").unwrap_or_default().join(fallback))
        };
        let (rustup, cargo) = (home("RUSTUP_HOME", ".rustup"), home("CARGO_HOME", ".cargo"));
        let (path, text) = (self.wrapper(), self.wrapper_text(&rustup, &cargo));
        // An unchanged script is left alone: another compile may be starting it right now.
        if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            fs::write(&path, text).map_err(CompileError::io(&path))?;
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&path, mode).map_err(CompileError::io(&path))?;
        }
        Ok(())
    }

    /// `write` as a line of shell, for a builder. The sources of etcdimg itself and of its other
    /// crates are not there, so empty files take their place: cargo wants every target of the
    /// workspace to exist.
    pub(super) fn shell(&self, source: &WorkspaceSource) -> String {
        let (root, wrapper) = (self.root.display(), wrapper::NAME);
        format!(
            "mkdir -p {root}/src {root}/tests/it && \\\n    \
             touch {root}/src/lib.rs {root}/src/main.rs {root}/tests/it/main.rs && \\\n    \
             for crate in {BUILDER_ROOT}/crates/*; do [ -d $crate/src ] || \
             {{ mkdir $crate/src && touch $crate/src/lib.rs $crate/src/main.rs; }}; done && \\\n    \
             ln -s {BUILDER_ROOT}/Cargo.lock {BUILDER_ROOT}/Cargo.toml {BUILDER_ROOT}/crates \
             {root}/ && \\\n    \
             ln -s {BUILDER_WORK}/parts/rust-{}/library {root}/library && \\\n    \
             cp {BUILDER_ROOT}/{wrapper} {root}/{wrapper} && chmod 0755 {root}/{wrapper}",
            source.rust,
        )
    }

    fn link(&self, name: &str, to: &Path) -> Result<(), CompileError> {
        let link = self.root.join(name);
        if fs::read_link(&link).is_ok_and(|known| known == to) {
            return Ok(());
        }
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(CompileError::io(&link)(error));
            }
            _ => {}
        }
        std::os::unix::fs::symlink(to, &link).map_err(CompileError::io(&link))
    }
}
