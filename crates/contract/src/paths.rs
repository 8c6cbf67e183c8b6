//! Where an image has its files, without the leading slash, and their modes.

pub use etcd_version::BUNDLED_PATH;
pub use etcd_version::facts::FACTS_PATH;

/// The folder of all programs.
pub const BIN: &str = "usr/local/bin";

/// A second way to `migrate` on Windows, which older manifests use.
pub const WINDOWS_BIN: &str = "bin";

/// The folder of [`BUNDLED_PATH`] and [`FACTS_PATH`].
pub const SHARE: &str = "usr/local/share/etcdimg";

pub const MIGRATE: &str = "migrate";

/// Runs `migrate` from the variables that the images of Kubernetes used.
pub const WRAPPER: &str = "migrate-if-needed.sh";
pub const WINDOWS_WRAPPER: &str = "migrate-if-needed.bat";

/// The mode of programs and scripts since the first of these images.
pub const PROGRAM_MODE: u32 = 0o555;
pub const FILE_MODE: u32 = 0o444;
pub const DIRECTORY_MODE: u32 = 0o755;

/// The two roots of every Windows layer: files, and changes of the Windows registry (none here).
pub const FILES: &str = "Files";
pub const HIVES: &str = "Hives";

/// How the layers of an operating system spell paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathStyle {
    Linux,
    /// Files are below [`FILES`], and programs end in `.exe`.
    Windows,
}

impl PathStyle {
    pub fn of(platform: &oci::Platform) -> Self {
        if platform.is_windows() { Self::Windows } else { Self::Linux }
    }

    pub fn is_windows(self) -> bool {
        self == Self::Windows
    }

    /// A path in a layer.
    pub fn path(self, path: &str) -> String {
        match self {
            Self::Linux => path.to_owned(),
            Self::Windows => format!("{FILES}/{path}"),
        }
    }

    /// What the names of programs end with.
    pub fn program_suffix(self) -> &'static str {
        match self {
            Self::Linux => "",
            Self::Windows => ".exe",
        }
    }

    /// A program in a layer, by its name without suffix.
    pub fn program(self, name: &str) -> String {
        self.path(&format!("{BIN}/{name}{}", self.program_suffix()))
    }

    /// The file name of the script that runs `migrate`.
    pub fn wrapper(self) -> &'static str {
        match self {
            Self::Linux => WRAPPER,
            Self::Windows => WINDOWS_WRAPPER,
        }
    }

    /// The folders that every layer begins with.
    pub fn roots(self) -> &'static [&'static str] {
        match self {
            Self::Linux => &[],
            Self::Windows => &[FILES, HIVES],
        }
    }
}
