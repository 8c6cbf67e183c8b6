//! Go's build info (`debug/buildinfo`), and etcd's version variables.

use etcd_version::{EtcdVersion, go_package};
use object::{Object, ObjectSection};

use super::strings::{Sections, has_go_string};
use crate::platform::Platform;

/// What a program of etcd must report about itself.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedEtcd<'a> {
    pub program: &'a str,
    pub version: &'a str,
    pub go: &'a str,
    pub commit: &'a str,
    pub platform: &'a Platform,
}

/// Compares what the program says of itself with what is expected.
pub fn compare(
    bytes: &[u8],
    expected: &ExpectedEtcd<'_>,
    compare: &mut impl FnMut(&'static str, &str, &str),
) {
    let Ok(file) = object::File::parse(bytes) else {
        return compare("Go build info", "an object file", "something else");
    };
    let Some(info) = BuildInfo::read(&file) else {
        return compare("Go build info", "present", "none");
    };
    compare(
        "Go release",
        &format!("go{}", expected.go),
        info.go.split_whitespace().next().unwrap_or_default(),
    );
    compare("main package", main_package(expected), info.path);
    let variant = expected.platform.variant.as_deref();
    let arm = variant.map(|variant| ("GOARM", variant.trim_start_matches('v')));
    for (key, value) in settings(expected).into_iter().chain(arm) {
        // Go recorded no settings before 1.18.
        if let Some(received) = info.setting(key) {
            compare(key, value, received);
        }
    }
    let version = has_go_string(&file, |text| text == expected.version.as_bytes());
    compare(
        "embedded version",
        expected.version,
        version.as_deref().unwrap_or("none, or another one"),
    );
    // Only `etcd` prints its commit; the linker removes the unused variable from other programs.
    if expected.program != "etcd" {
        return;
    }
    let is_commit = |text: &[u8]| text.len() >= 7 && expected.commit.as_bytes().starts_with(text);
    if has_go_string(&file, is_commit).is_none() {
        compare("embedded commit", expected.commit, "none, or another one");
    }
}

fn main_package(expected: &ExpectedEtcd<'_>) -> &'static str {
    // What is no version is reported as a wrong embedded version.
    let version = expected.version.parse().unwrap_or(EtcdVersion::new(3, 5, 0));
    go_package(&version, expected.program)
}

fn settings<'a>(expected: &ExpectedEtcd<'a>) -> [(&'static str, &'a str); 3] {
    [
        ("CGO_ENABLED", "0"),
        ("GOARCH", &expected.platform.architecture),
        ("GOOS", &expected.platform.os),
    ]
}

/// What `go version -m` prints.
#[derive(Debug)]
struct BuildInfo<'a> {
    go: &'a str,
    path: &'a str,
    modules: &'a str,
}

impl<'a> BuildInfo<'a> {
    fn read(file: &object::File<'a>) -> Option<Self> {
        let bytes = Self::bytes(file)?;
        let (go, modules) = if bytes.get(15)? & INLINE != 0 {
            let (go, rest) = inline_string(bytes.get(32..)?)?;
            (go, inline_string(rest)?.0)
        } else {
            pointed_strings(file, bytes)?
        };
        // There are 16 bytes of marker on both sides, which `go version -m` removes, too.
        let modules = modules.get(16..modules.len().checked_sub(16)?)?;
        let modules = std::str::from_utf8(modules).ok()?;
        let path = modules.lines().find_map(|line| line.strip_prefix("path\t"))?;
        Some(Self { go: std::str::from_utf8(go).ok()?, path, modules })
    }

    /// The build info has a section of its own; in PE it is somewhere in `.data`.
    fn bytes(file: &object::File<'a>) -> Option<&'a [u8]> {
        const MARK: &[u8] = b"\xff Go buildinf:";
        const ALIGNMENT: usize = 16;
        if let Some(section) = file.section_by_name(".go.buildinfo") {
            return section.data().ok().filter(|bytes| bytes.starts_with(MARK));
        }
        let data = file.section_by_name(".data")?.data().ok()?;
        let at = (0..data.len()).step_by(ALIGNMENT).find(|at| data[*at..].starts_with(MARK))?;
        data.get(at..)
    }

    fn setting(&self, key: &str) -> Option<&'a str> {
        let lines = self.modules.lines().filter_map(|line| line.strip_prefix("build\t"));
        lines
            .filter_map(|line| line.split_once('='))
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }
}

/// A length as a varint, then the bytes (Go 1.18 and later).
fn inline_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0_usize;
    for (i, byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let rest = bytes.get(i + 1..)?;
            return Some((rest.get(..length)?, rest.get(length..)?));
        }
    }
    None
}

/// A flag of the header: the strings follow directly.
const INLINE: u8 = 2;

/// Two addresses of Go strings (Go before 1.18).
fn pointed_strings<'a>(file: &object::File<'a>, bytes: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let word = usize::from(*bytes.get(14)?);
    let is_big = bytes.get(15)? & 1 != 0;
    let memory = Sections::new(file);
    let number = |bytes: &[u8]| -> Option<u64> {
        let step = |sum: u64, byte: &u8| (sum << 8) | u64::from(*byte);
        let bytes = bytes.get(..word)?;
        Some(if is_big { bytes.iter().fold(0, step) } else { bytes.iter().rev().fold(0, step) })
    };
    let string = |at: &[u8]| -> Option<&'a [u8]> {
        let header = memory.read(number(at)?, 2 * word as u64)?;
        memory.read(number(header)?, number(header.get(word..)?)?)
    };
    Some((string(bytes.get(16..)?)?, string(bytes.get(16 + word..)?)?))
}
