//! An image for `etcdimg build --builder buildx`, made of this machine's own toolchains, for use
//! where the locked builder image cannot be pulled.
//!
//! It contains the shell of busybox, every Go release of versions.yaml with the modules of sources/
//! as a Go proxy, the parts that [`crate::cross`] installs, Rust and its crates. With them no step
//! of a compile needs a network. Linux on x86_64 only. It packs the content of the caches; a build
//! alone does not fetch all modules and crates, so first run
//! `etcdimg fetch --only modules --from source --platform P`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use etcdimg::catalog::Versions;
use oci::document::{PlatformFields, RunConfig};
use oci::{Digest, ImageConfig};

use crate::command::{Cmd, find};
use crate::error::{ErrorContext as _, Result, TaskError};
use crate::oci_layout::{LayoutLayer, LayoutWriter};
use crate::workspace::{self, say};
use crate::{busybox, cross, part};

/// Where the parts of the cache are in the image, as `etcdimg` expects them there.
const CACHE: &str = "opt/etcdimg";

const ENVIRONMENT: [&str; 6] = [
    "PATH=/opt/etcdimg/rust/bin:/usr/local/bin:/usr/bin:/bin",
    "HOME=/root",
    "CARGO_NET_OFFLINE=true",
    "GOPROXY=file:///opt/go-proxy",
    "GOSUMDB=off",
    "GOFLAGS=-modcacherw",
];

/// Which builder image is made, and where it goes.
#[derive(Debug)]
pub struct BuilderImageOptions<'a> {
    /// The folder with versions.yaml.
    pub catalog: &'a Path,
    pub with_rust: bool,
    /// Where the layout goes.
    pub out: &'a Path,
    /// `HOST:PORT/NAME` of a repository that the image is also pushed to.
    pub repository: Option<&'a str>,
}

/// Makes the image; returns the digest of its manifest.
pub fn make(options: &BuilderImageOptions<'_>) -> Result<Digest> {
    if (std::env::consts::OS, std::env::consts::ARCH) != ("linux", "x86_64") {
        return Err(TaskError::new("builder images are made on linux/amd64 only"));
    }
    let versions = workspace::versions(options.catalog)?;
    fs::create_dir_all(options.out).context(options.out.display())?;
    let work = part::temporary(options.out)?;
    let image = BuilderImageWriter {
        layout: LayoutWriter::create(options.out)?,
        work: work.path(),
        cache: workspace::cache()?,
        versions,
    };
    let mut layers = vec![image.shell()?, image.libraries(options.with_rust)?];
    say("packing Go and its modules");
    layers.push(image.go()?);
    if options.with_rust {
        say("packing Rust and zig");
        layers.push(image.rust()?);
    }
    let manifest = image.layout.image(&layers, config(), None)?;
    let found = manifest.digest;
    image.layout.tag("builder", manifest)?;
    drop(work);
    if let Some(repository) = options.repository {
        say(format_args!("pushing to {repository}"));
        let crane = std::env::var_os("CRANE").unwrap_or_else(|| "crane".into());
        let name = format!("{repository}:latest");
        Cmd::new(crane).args(["push", "--insecure"]).arg(options.out).arg(name).run()?;
    }
    Ok(found)
}

fn config() -> ImageConfig {
    let environment = ENVIRONMENT.map(str::to_owned).to_vec();
    let platform = PlatformFields {
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        ..PlatformFields::default()
    };
    let config = Some(RunConfig { env: Some(environment), ..RunConfig::default() });
    ImageConfig { platform, config, ..ImageConfig::default() }
}

struct BuilderImageWriter<'a> {
    layout: LayoutWriter,
    /// On the file system of the layout, so that layers can be renamed into it.
    work: &'a Path,
    cache: PathBuf,
    versions: Versions,
}

impl BuilderImageWriter<'_> {
    fn shell(&self) -> Result<LayoutLayer> {
        let tar = self.work.join("shell.tar");
        fs::write(&tar, busybox::layer(None, "linux/amd64")?)?;
        self.layout.plain_layer(&tar)
    }

    /// bash for the scripts, and the C library that the compilers need.
    fn libraries(&self, with_rust: bool) -> Result<LayoutLayer> {
        let bash = find("bash").ok_or_else(|| TaskError::new("there is no bash"))?;
        let mut programs = vec![bash.clone()];
        programs.extend(self.go_folders()?.into_iter().map(|folder| folder.join("bin/go")));
        let sysroot = sysroot()?;
        if with_rust {
            programs.extend([sysroot.join("bin/rustc"), sysroot.join("bin/cargo")]);
            programs.push(part::entry(&sysroot.join("lib"), "librustc_driver-", ".so")?);
        }
        let root = self.folder("libraries")?;
        copy(&bash, &root.join("bin"))?;
        let mut libraries = BTreeSet::new();
        for program in programs {
            // A static program has no libraries; `ldd` then exits with an error.
            let text = Cmd::new("ldd").arg(&program).text().unwrap_or_default();
            libraries.extend(libraries_of(&text).map(PathBuf::from));
        }
        for library in libraries.iter().filter(|path| !path.starts_with(&sysroot)) {
            let is_loader = library
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("ld-linux"));
            let folder = if is_loader { "lib64" } else { "lib/x86_64-linux-gnu" };
            copy(library, &root.join(folder))?;
        }
        self.pack("libraries", &[], &[(&root, &["."])])
    }

    /// Each release by the name that Go looks for (`GOTOOLCHAIN=goX.Y.Z`); the newest is `go`.
    fn go(&self) -> Result<LayoutLayer> {
        let root = self.folder("go")?;
        let bin = root.join("usr/local/bin");
        fs::create_dir_all(&bin)?;
        for release in self.go_releases() {
            let program = format!("../go{release}/bin/go");
            symlink(&program, bin.join(format!("go{release}")))?;
            let _ = fs::remove_file(bin.join("go"));
            symlink(&program, bin.join("go"))?;
        }
        let modules = self.cache.join("go-mod");
        let folders = self.go_folders()?;
        let mut names: Vec<_> = folders
            .iter()
            .filter_map(|folder| folder.strip_prefix(&modules).ok()?.to_str())
            .collect();
        names.push("cache/download");
        // The folders themselves, but the links between programs as links.
        let moves = [
            r"--transform=s,^golang.org/toolchain@v0.0.1-go\([0-9.]*\)\.linux-amd64,usr/local/go\1,S",
            "--transform=s,^cache/download,opt/go-proxy,S",
            "--exclude=cache/download/golang.org/toolchain",
        ];
        self.pack("go", &moves, &[(&modules, &names), (&root, &["usr/local/bin"])])
    }

    fn go_releases(&self) -> Vec<&str> {
        let mut releases: Vec<_> =
            self.versions.bundled.iter().map(|etcd| etcd.go.as_str()).collect();
        releases.sort_by_key(|release| numbers(release));
        releases.dedup();
        releases
    }

    fn go_folders(&self) -> Result<Vec<PathBuf>> {
        let folder = |release: &str| {
            let name = format!("go-mod/golang.org/toolchain@v0.0.1-go{release}.linux-amd64");
            let folder = self.cache.join(name);
            let missing = || {
                TaskError::new(format!("Go {release} is not in the cache"))
                    .hint("etcdimg fetch --only modules --from source")
            };
            folder.is_dir().then_some(folder).ok_or_else(missing)
        };
        self.go_releases().into_iter().map(folder).collect()
    }

    fn rust(&self) -> Result<LayoutLayer> {
        let cross::CrossParts { zig, library } = cross::provide()?;
        let sysroot = sysroot()?;
        let (zig_version, rust_version) = (&self.versions.zig, &self.versions.rust);
        let root = self.folder("rust")?;
        let inside = root.join(CACHE);
        for name in ["rustc", "cargo"] {
            copy(&sysroot.join("bin").join(name), &inside.join("rust/bin"))?;
        }
        let lib = inside.join("rust/lib");
        let is_library = |path: &PathBuf| path.to_string_lossy().contains(".so");
        for path in part::entries(&sysroot.join("lib"))?.iter().filter(|path| is_library(path)) {
            copy(path, &lib)?;
        }
        copy_folder(&sysroot.join("lib/rustlib/x86_64-unknown-linux-gnu"), &lib.join("rustlib"))?;
        copy_folder(&library, &inside.join(format!("parts/rust-{rust_version}")))?;
        copy_folder(&zig, &inside.join("parts"))?;
        for name in ["index", "cache"] {
            copy_folder(
                &cargo_home()?.join("registry").join(name),
                &inside.join("cargo/registry"),
            )?;
        }
        // Build scripts are linked for the builder itself, whose C library zig cannot see.
        let cc = root.join("usr/bin/cc");
        fs::create_dir_all(root.join("usr/bin"))?;
        fs::write(
            &cc,
            format!(
                "#!/bin/sh\nexec /{CACHE}/parts/zig-{zig_version}/zig cc -target x86_64-linux-gnu \"$@\"\n"
            ),
        )?;
        fs::set_permissions(&cc, fs::Permissions::from_mode(0o755))?;
        self.pack("rust", &[], &[(&root, &["."])])
    }

    fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.work.join(name);
        fs::create_dir(&folder)?;
        Ok(folder)
    }

    /// A layer of paths in folders. Uncompressed, because it is used on the machine that makes it.
    fn pack(
        &self,
        name: &str,
        options: &[&str],
        content: &[(&Path, &[&str])],
    ) -> Result<LayoutLayer> {
        let tar = self.work.join(format!("{name}.tar"));
        let mut command = Cmd::new("tar")
            .args(["--create", "--format=pax", "--pax-option=delete=atime,delete=ctime"])
            .args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"])
            .arg("--file")
            .arg(&tar)
            .args(options);
        for (folder, paths) in content {
            command = command.arg("-C").arg(folder).args(*paths);
        }
        command.run()?;
        self.layout.plain_layer(&tar)
    }
}

fn sysroot() -> Result<PathBuf> {
    Ok(Cmd::new("rustc").args(["--print", "sysroot"]).text()?.into())
}

fn cargo_home() -> Result<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"));
    let folder = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home);
    folder.ok_or_else(|| TaskError::new("neither CARGO_HOME nor HOME is set"))
}

/// A file itself, not a link to it, into a folder.
fn copy(file: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).context(folder.display())?;
    let to = folder.join(file.file_name().unwrap_or_default());
    fs::copy(file, &to).map(drop).context(file.display())
}

/// A folder with everything in it, of the same name, into another.
fn copy_folder(from: &Path, into: &Path) -> Result<()> {
    fs::create_dir_all(into).context(into.display())?;
    // What a link points to, if it is the folder itself that is one.
    Cmd::new("cp").args(["-rH", "--"]).arg(from).arg(into).run()
}

/// The files that ldd names.
fn libraries_of(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let found = line.split_once("=> ").map_or(line, |(_, rest)| rest).trim();
        let path = found.split(' ').next()?;
        path.starts_with('/').then_some(path)
    })
}

/// A version, to be compared.
fn numbers(version: &str) -> Vec<u64> {
    version.split('.').map(|number| number.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_names_libraries_and_the_loader() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \tlibgone.so => not found\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            libraries_of(text).collect::<Vec<_>>(),
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]
        );
        assert_eq!(libraries_of("\tnot a dynamic executable").count(), 0);
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert!(numbers("1.16.15") < numbers("1.25.9"));
        assert!(numbers("1.25.9") < numbers("1.25.12"));
    }
}
