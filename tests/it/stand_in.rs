//! Stand-ins for the compiled programs. They have the build information that `etcdimg` checks
//! before a program may enter an image, and do nothing else, so that most tests need no compilers.
//! A fake
//! `docker` returns them from `buildx build`.
//!
//! They do not show that the real programs pass these checks; tests that compile them do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use etcdimg::catalog::Catalog;
use etcdimg::program::MIGRATE_MARK;

/// A reference that is never pulled.
pub const BUILDER_IMAGE: &str =
    "builder.invalid/go@sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// Writes the programs of this platform's operating system to where `--output` says.
const DOCKER: &str = r#"#!/bin/sh
for word; do
  case $word in
    --output=type=local,dest=*) out=${word#--output=type=local,dest=} ;;
    --platform=windows/*) from=windows ;;
    --platform=linux/amd64) from=linux ;;
  esac
done
mkdir -p "$out" && cp "${0%/*}/$from/"* "$out/"
"#;

/// Makes the folder that has to be first in `PATH`.
pub fn write_docker(folder: &Path, catalog: &Catalog) {
    for os in ["linux", "windows"] {
        fs::create_dir_all(folder.join(os)).unwrap();
        for (name, bytes) in programs(catalog, os) {
            fs::write(folder.join(os).join(name), bytes).unwrap();
        }
    }
    let docker = folder.join("docker");
    fs::write(&docker, DOCKER).unwrap();
    fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).unwrap();
}

/// `PATH` with a folder in front.
pub fn path_with(folder: &Path) -> std::ffi::OsString {
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(PathBuf::from(folder)).chain(std::env::split_paths(&rest));
    std::env::join_paths(folders).unwrap()
}

/// Of the only version of a catalog.
fn programs(catalog: &Catalog, os: &str) -> Vec<(&'static str, Vec<u8>)> {
    let [etcd] = &catalog.versions.bundled[..] else { panic!("one version of etcd") };
    let format = if os == "windows" { pe } else { elf };
    let (is_3_4, version) = (etcd.version.minor() == 4, etcd.version.to_string());
    let etcd_program = |name: &'static str, kibibytes: usize| {
        let package = match (is_3_4, name) {
            (true, "etcd") => "go.etcd.io/etcd".to_owned(),
            (true, _) => format!("go.etcd.io/etcd/{name}"),
            (false, "etcd") => "go.etcd.io/etcd/server/v3".to_owned(),
            (false, _) => format!("go.etcd.io/etcd/{name}/v3"),
        };
        let info = go_build_info(&etcd.go, &package, os);
        // Only the server has its commit.
        let commit = (name == "etcd").then_some(&etcd.commit[..7]);
        let strings: Vec<_> = [version.as_str()].into_iter().chain(commit).collect();
        (name, format(&info, &strings, &noise(name, kibibytes)))
    };
    let mark = format!("{MIGRATE_MARK}{}\0", env!("CARGO_PKG_VERSION"));
    let mut programs = vec![
        etcd_program("etcd", 1200),
        etcd_program("etcdctl", 800),
        ("migrate", format(&[0; 16], &[], &[mark.as_bytes(), &noise("migrate", 20)].concat())),
    ];
    if !is_3_4 {
        programs.push(etcd_program("etcdutl", 800));
    }
    programs
}

/// What `debug/buildinfo` reads, as Go has written it since 1.18.
fn go_build_info(go: &str, package: &str, os: &str) -> Vec<u8> {
    const STRINGS_FOLLOW: u8 = 2;
    const MARK: [u8; 16] = [0x30; 16];
    let mut info = [&b"\xff Go buildinf:"[..], &[8, STRINGS_FOLLOW], &[0; 16]].concat();
    let mut text = format!("path\t{package}\n");
    // Go before 1.18 recorded no settings.
    if !go.starts_with("1.16.") {
        text.push_str("build\tCGO_ENABLED=0\nbuild\tGOARCH=amd64\nbuild\tGOOS=");
        text.extend([os, "\n"]);
    }
    let modules = [&MARK, text.as_bytes(), &MARK].concat();
    for string in [format!("go{go}").as_bytes(), &modules] {
        let mut length = string.len();
        while length >= 0x80 {
            info.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        info.push(u8::try_from(length).unwrap());
        info.extend_from_slice(string);
    }
    padded(info, 16)
}

/// Go strings, addresses and lengths in front, as they lie in memory from `address` on.
fn go_strings(strings: &[&str], address: u64) -> Vec<u8> {
    let mut text_at = address + 16 * strings.len() as u64;
    let mut bytes = Vec::new();
    for string in strings {
        bytes.extend(text_at.to_le_bytes());
        bytes.extend((string.len() as u64).to_le_bytes());
        text_at += string.len() as u64;
    }
    bytes.extend(strings.concat().into_bytes());
    padded(bytes, 16)
}

/// Nothing that a compressor could make small; the same for one name.
fn noise(name: &str, kibibytes: usize) -> Vec<u8> {
    let mut state = name
        .bytes()
        .fold(0x9E37_79B9_7F4A_7C15, |sum: u64, byte| sum.rotate_left(8) ^ u64::from(byte));
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..kibibytes * 128).flat_map(|_| next()).collect()
}

fn padded(mut bytes: Vec<u8>, to: usize) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
    bytes
}

fn half(out: &mut Vec<u8>, values: &[u16]) {
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn word(out: &mut Vec<u8>, values: &[u32]) {
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn long(out: &mut Vec<u8>, values: &[u64]) {
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

const LOAD: u32 = 1;
const INTERPRETER: u32 = 3;

/// A static ELF executable for amd64.
fn elf(info: &[u8], strings: &[&str], content: &[u8]) -> Vec<u8> {
    elf_with(LOAD, info, strings, content)
}

/// One that asks for a loader.
pub fn dynamic_elf() -> Vec<u8> {
    elf_with(INTERPRETER, &[0; 16], &[], b"")
}

fn elf_with(segment: u32, info: &[u8], strings: &[&str], content: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    const NAMES: &[u8] = b"\0.go.buildinfo\0.data\0.shstrtab\0";
    let data_at = HEADERS + info.len() as u64;
    let mut data = go_strings(strings, BASE + data_at);
    data.extend_from_slice(content);
    let data = padded(data, 16);
    let names_at = data_at + data.len() as u64;
    let names = padded(NAMES.to_vec(), 16);
    let sections_at = names_at + names.len() as u64;

    let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // An executable for x86-64; sizes and numbers of the headers that follow.
    half(&mut out, &[2, 62]);
    word(&mut out, &[1]);
    long(&mut out, &[BASE + HEADERS, 64, sections_at]);
    word(&mut out, &[0]);
    half(&mut out, &[64, 56, 1, 64, 4, 3]);
    word(&mut out, &[segment, 6]);
    long(&mut out, &[0, BASE, BASE, sections_at, sections_at, 0x1000]);
    out.extend_from_slice(info);
    out.extend_from_slice(&data);
    out.extend_from_slice(&names);
    let mut section = |name: u32, kind: u32, address: u64, at: u64, size: u64| {
        word(&mut out, &[name, kind]);
        long(&mut out, &[if address == 0 { 0 } else { 3 }, address, at, size]);
        word(&mut out, &[0, 0]);
        long(&mut out, &[16, 0]);
    };
    section(0, 0, 0, 0, 0);
    section(1, 1, BASE + HEADERS, HEADERS, info.len() as u64);
    section(15, 1, BASE + data_at, data_at, data.len() as u64);
    section(21, 3, 0, names_at, NAMES.len() as u64);
    out
}

/// A PE executable for amd64 that imports nothing.
fn pe(info: &[u8], strings: &[&str], content: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x1_4000_0000;
    const DATA: u32 = 0x1000;
    const FILE: usize = 0x200;
    let mut data = info.to_vec();
    data.extend(go_strings(strings, BASE + u64::from(DATA) + info.len() as u64));
    data.extend_from_slice(content);
    let data = padded(data, FILE);
    let size = u32::try_from(data.len()).unwrap();

    let mut out = b"MZ".to_vec();
    out.resize(0x3c, 0);
    out.extend(0x40_u32.to_le_bytes());
    out.extend(b"PE\0\0");
    // Machine and one section; no time, no symbols.
    half(&mut out, &[0x8664, 1]);
    word(&mut out, &[0, 0, 0]);
    half(&mut out, &[240, 0x22]);
    // PE32+, with sixteen empty data directories.
    half(&mut out, &[0x20b, 0]);
    word(&mut out, &[0, size, 0, DATA, DATA]);
    out.extend(BASE.to_le_bytes());
    word(&mut out, &[0x1000, 0x200]);
    half(&mut out, &[6, 0, 0, 0, 6, 0]);
    word(&mut out, &[0, DATA + size.next_multiple_of(0x1000), 0x200, 0]);
    half(&mut out, &[3, 0]);
    long(&mut out, &[0x10_0000; 4]);
    word(&mut out, &[0, 16]);
    out.resize(out.len() + 16 * 8, 0);
    out.extend(b".data\0\0\0");
    word(&mut out, &[size, DATA, size, 0x200, 0, 0, 0, 0xc000_0040]);
    out.resize(FILE, 0);
    out.extend_from_slice(&data);
    out
}
