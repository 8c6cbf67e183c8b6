//! What a Windows layer has beside its files: two root folders, and file attributes and rights in
//! PAX records, as hcsshim and BuildKit read and write them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;

pub use contract::paths::{FILES, HIVES};

/// The type of an entry with attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    Directory,
    File,
}

/// The PAX records of an entry, sorted by key. The owner is the group of administrators; users may
/// read and execute.
pub fn records(object: ObjectKind, mtime: u64) -> Vec<u8> {
    let (attributes, inherit) = match object {
        ObjectKind::Directory => ("16", OBJECT_INHERIT | CONTAINER_INHERIT),
        ObjectKind::File => ("32", 0),
    };
    let records = [
        ("LIBARCHIVE.creationtime", mtime.to_string()),
        ("MSWINDOWS.fileattr", attributes.to_owned()),
        ("MSWINDOWS.rawsd", BASE64.encode(security_descriptor(inherit))),
    ];
    records.iter().flat_map(|(key, value)| record(key, value)).collect()
}

/// `<length> <key>=<value>\n`, where the length counts itself.
fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n").into_bytes()
}

const OBJECT_INHERIT: u8 = 1;
const CONTAINER_INHERIT: u8 = 2;

const FULL_ACCESS: u32 = 0x001f_01ff;
const READ_AND_EXECUTE: u32 = 0x0012_00a9;

/// S-1-5-18
const SYSTEM: &[u32] = &[18];
/// S-1-5-32-544
const ADMINISTRATORS: &[u32] = &[32, 544];
/// S-1-5-32-545
const USERS: &[u32] = &[32, 545];

/// Self-relative, as MS-DTYP 2.4.6 has it: `O:BAG:SYD:(A;;FA;;;BA)(A;;FA;;;SY)(A;;0x1200a9;;;BU)`.
fn security_descriptor(inherit: u8) -> Vec<u8> {
    const HEADER: usize = 20;
    // SE_DACL_PRESENT and SE_SELF_RELATIVE.
    const CONTROL: u16 = 0x0004 | 0x8000;
    let (owner, group) = (sid(ADMINISTRATORS), sid(SYSTEM));
    let list = access_list(&[
        ace(inherit, FULL_ACCESS, ADMINISTRATORS),
        ace(inherit, FULL_ACCESS, SYSTEM),
        ace(inherit, READ_AND_EXECUTE, USERS),
    ]);
    let group_at = HEADER + owner.len();
    let list_at = group_at + group.len();
    let mut bytes = vec![1, 0];
    bytes.extend(CONTROL.to_le_bytes());
    for offset in [HEADER, group_at, 0, list_at] {
        bytes.extend(le32(offset));
    }
    [bytes, owner, group, list].concat()
}

/// A security identifier of the authority 5, NT.
fn sid(parts: &[u32]) -> Vec<u8> {
    let mut bytes = vec![1, u8::try_from(parts.len()).expect("at most 15 parts"), 0, 0, 0, 0, 0, 5];
    bytes.extend(parts.iter().flat_map(|part| part.to_le_bytes()));
    bytes
}

fn access_list(entries: &[Vec<u8>]) -> Vec<u8> {
    let size = 8 + entries.iter().map(Vec::len).sum::<usize>();
    let mut bytes = vec![2, 0];
    bytes.extend(&le32(size)[..2]);
    bytes.extend(le32(entries.len()));
    bytes.extend(entries.concat());
    bytes
}

/// An access control entry that allows `mask`.
fn ace(flags: u8, mask: u32, who: &[u32]) -> Vec<u8> {
    let who = sid(who);
    let mut bytes = vec![0, flags];
    bytes.extend(&le32(8 + who.len())[..2]);
    bytes.extend(mask.to_le_bytes());
    bytes.extend(who);
    bytes
}

fn le32(number: usize) -> [u8; 4] {
    u32::try_from(number).expect("a few hundred bytes").to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_record_counts_itself() {
        assert_eq!(record("k", "v"), b"6 k=v\n");
        assert_eq!(record("abc", "d"), b"8 abc=d\n");
        assert_eq!(record("abc", "def"), b"11 abc=def\n");
        let long = record("key", &"v".repeat(90));
        assert_eq!(long.len().to_string().as_bytes(), &long[..2]);
        let longer = record("key", &"v".repeat(93));
        assert_eq!(longer.len().to_string().as_bytes(), &longer[..3]);
    }

    /// Windows compiles the same SDDL to these bytes; BuildKit writes them for every file.
    #[test]
    fn files_have_the_security_descriptor_that_windows_would_make() {
        assert_eq!(
            BASE64.encode(security_descriptor(0)),
            "AQAEgBQAAAAkAAAAAAAAADAAAAABAgAAAAAABSAAAAAgAgAAAQEAAAAAAAUSAAAAAgBMAAMAAAAAABgA/wEfAAECAAAAAAAFIAAAACACAAAAABQA/wEfAAEBAAAAAAAFEgAAAAAAGACpABIAAQIAAAAAAAUgAAAAIQIAAA=="
        );
    }
}
