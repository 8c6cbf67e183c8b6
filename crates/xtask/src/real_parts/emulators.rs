//! Containers of other architectures: the kernel starts their programs by qemu.

use std::fs;
use std::path::Path;

use crate::command::Cmd;
use crate::interrupt;
use crate::workspace::say;

const BINFMT: &str = "/proc/sys/fs/binfmt_misc";

/// Platforms, and what qemu calls their architecture.
const PLATFORMS: [(&str, &str); 4] = [
    ("linux/arm64", "aarch64"),
    ("linux/arm/v7", "arm"),
    ("linux/ppc64le", "ppc64le"),
    ("linux/s390x", "s390x"),
];

/// The registered emulators; they are unregistered when this value is dropped.
#[derive(Debug, Default)]
pub struct Emulators {
    /// The platforms whose programs can be started here.
    pub platforms: Vec<&'static str>,
    registered: Vec<String>,
    is_mounted: bool,
}

impl Emulators {
    /// Platforms whose programs cannot be started here are left out, with a message.
    pub fn provide() -> Self {
        let mut emulators = Self::default();
        let register = Path::new(BINFMT).join("register");
        if !register.exists() {
            let mount = ["-t", "binfmt_misc", "binfmt_misc", BINFMT];
            if !Cmd::root("mount").args(mount).succeeds() {
                say(
                    "binfmt_misc cannot be mounted: programs of other architectures cannot run here",
                );
                return emulators;
            }
            emulators.is_mounted = true;
        }
        for (platform, architecture) in PLATFORMS {
            let name = format!("qemu-{architecture}");
            if !Path::new(BINFMT).join(&name).exists() {
                let line = fs::read(format!("/usr/lib/binfmt.d/{name}.conf")).unwrap_or_default();
                let line = line.trim_ascii_end();
                if line.is_empty() || Cmd::root("tee").arg(&register).fed(line).is_err() {
                    say(format_args!("no emulator for {platform}"));
                    continue;
                }
                emulators.registered.push(name);
            }
            emulators.platforms.push(platform);
        }
        emulators
    }
}

impl Drop for Emulators {
    fn drop(&mut self) {
        interrupt::shielded(|| {
            for name in &self.registered {
                let _ = Cmd::root("tee").arg(Path::new(BINFMT).join(name)).fed(b"-1");
            }
            if self.is_mounted {
                Cmd::root("umount").arg(BINFMT).succeeds();
            }
        });
    }
}
