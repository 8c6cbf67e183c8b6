//! Checks a program before it gets into an image: machine, linkage, Go build info, and the version
//! and commit that it prints. (Two releases of the old etcd image had an etcd for the wrong machine
//! in the image for arm64.)
//!
//! Pure: bytes in, differences out. The program is never run.

mod go;
mod pe;
mod strings;

use object::elf;
use object::read::elf::{ElfFile32, ElfFile64, FileHeader, ProgramHeader};

use crate::platform::Platform;

/// Part of every layer's cache key: after a change of the checks, cached layers are checked again.
pub const CHECK_VERSION: u32 = 2;

/// What a program has to be.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// `etcd-3.6.14`, for the message.
    pub name: &'a str,
    pub platform: &'a Platform,
    pub content: Identity<'a>,
}

/// What a program must report about itself.
#[derive(Clone, Copy, Debug)]
pub enum Identity<'a> {
    Etcd {
        program: &'a str,
        version: &'a str,
        go: &'a str,
        commit: &'a str,
    },
    /// `migrate`, which carries [`MIGRATE_MARK`] and its version.
    Migrate {
        version: &'a str,
    },
}

/// Text inside of `migrate`, followed by its version.
pub const MIGRATE_MARK: &str = "etcdimg-migrate ";

/// One difference between a program and the plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}` for {platform} is not the program that the plan describes: wrong {what}\n  expected {expected}\n  received {received}"
)]
pub struct WrongProgram {
    pub name: String,
    pub platform: String,
    pub what: &'static str,
    pub expected: String,
    pub received: String,
}

/// All differences between a program and the plan; empty if it is the planned program.
pub fn check(bytes: &[u8], expected: &Expected<'_>) -> Vec<WrongProgram> {
    let wrong = |what, wanted: &str, received: &str| WrongProgram {
        name: expected.name.to_owned(),
        platform: expected.platform.to_string(),
        what,
        expected: wanted.to_owned(),
        received: received.to_owned(),
    };
    let Some(facts) = ProgramFacts::read(bytes) else {
        return vec![wrong("file format", format(expected.platform), "something else")];
    };
    let mut faults = Vec::new();
    let mut compare = |what, wanted: &str, received: &str| {
        if wanted != received {
            faults.push(wrong(what, wanted, received));
        }
    };
    compare("machine", machine(expected.platform), &facts.machine);
    compare("linkage", linkage(expected.platform), &facts.linkage);
    match expected.content {
        Identity::Etcd { program, version, go, commit } => {
            go::compare(
                bytes,
                &go::ExpectedEtcd { program, version, go, commit, platform: expected.platform },
                &mut compare,
            );
        }
        Identity::Migrate { version } => compare(
            "version",
            version,
            &strings::after(bytes, MIGRATE_MARK).unwrap_or("none".into()),
        ),
    }
    faults
}

struct ProgramFacts {
    machine: String,
    linkage: String,
}

impl ProgramFacts {
    fn read(bytes: &[u8]) -> Option<Self> {
        if let Some(facts) = pe::facts(bytes) {
            return Some(facts);
        }
        if let Ok(file) = ElfFile64::<object::Endianness>::parse(bytes) {
            return Some(Self::of(file.elf_header(), file.endian(), bytes));
        }
        let file = ElfFile32::<object::Endianness>::parse(bytes).ok()?;
        Some(Self::of(file.elf_header(), file.endian(), bytes))
    }

    fn of<Elf: FileHeader<Endian = object::Endianness>>(
        header: &Elf,
        endian: object::Endianness,
        bytes: &[u8],
    ) -> Self {
        let order = if header.is_little_endian() { "little-endian" } else { "big-endian" };
        let machine = format!("ELF machine {} {order}", header.e_machine(endian).0);
        // PT_INTERP names a loader, which the image does not have. PT_DYNAMIC alone is allowed: a
        // static position-independent program relocates itself.
        let segments = header.program_headers(endian, bytes).unwrap_or_default();
        let is_dynamic = segments.iter().any(|segment| segment.p_type(endian) == elf::PT_INTERP);
        Self { machine, linkage: if is_dynamic { "dynamic" } else { "static" }.to_owned() }
    }
}

fn format(platform: &Platform) -> &'static str {
    if platform.is_windows() { "a PE executable" } else { "an ELF executable" }
}

fn linkage(platform: &Platform) -> &'static str {
    if platform.is_windows() { pe::SYSTEM_ONLY } else { "static" }
}

fn machine(platform: &Platform) -> &'static str {
    if platform.is_windows() {
        return "PE machine 0x8664";
    }
    match platform.architecture.as_str() {
        "amd64" => "ELF machine 62 little-endian",
        "arm" => "ELF machine 40 little-endian",
        "arm64" => "ELF machine 183 little-endian",
        "ppc64le" => "ELF machine 21 little-endian",
        "riscv64" => "ELF machine 243 little-endian",
        "s390x" => "ELF machine 22 big-endian",
        _ => "an architecture that `Platform` does not know",
    }
}
