//! Finds strings inside of programs.

use object::{Object, ObjectSection};

/// Finds a variable of the program that is a Go string which `accept` accepts.
///
/// A Go string is an address and a length, next to each other in the data section. So unlike a
/// search for the letters alone, `3.6.1` is not found in a program that holds `3.6.14`.
pub fn has_go_string(file: &object::File<'_>, accept: impl Fn(&[u8]) -> bool) -> Option<String> {
    let word = if file.is_64() { 8 } else { 4 };
    let data = [".data", ".go.data"].into_iter().find_map(|name| file.section_by_name(name))?;
    let bytes = data.data().ok()?;
    let read = |at: usize| -> Option<u64> {
        let field = bytes.get(at..at + word)?;
        let mut buffer = [0; 8];
        Some(if file.is_little_endian() {
            buffer[..word].copy_from_slice(field);
            u64::from_le_bytes(buffer)
        } else {
            buffer[8 - word..].copy_from_slice(field);
            u64::from_be_bytes(buffer)
        })
    };
    let memory = Sections::new(file);
    (0..bytes.len()).step_by(word).find_map(|at| {
        let length = read(at + word).filter(|length| (5..=64).contains(length))?;
        let text = memory.read(read(at)?, length)?;
        accept(text).then(|| String::from_utf8_lossy(text).into_owned())
    })
}

/// The sections that hold bytes, by address.
pub struct Sections<'a> {
    sections: Vec<(u64, &'a [u8])>,
}

impl<'a> Sections<'a> {
    pub fn new(file: &object::File<'a>) -> Self {
        let sections = file.sections().filter(|section| section.address() != 0);
        Self {
            sections: sections
                .filter_map(|section| Some((section.address(), section.data().ok()?)))
                .collect(),
        }
    }

    pub fn read(&self, address: u64, length: u64) -> Option<&'a [u8]> {
        let inside = |(start, bytes): &&(u64, &[u8])| {
            address >= *start && address < start + bytes.len() as u64
        };
        let (start, bytes) = self.sections.iter().find(inside)?;
        let offset = usize::try_from(address - start).ok()?;
        bytes.get(offset..offset.checked_add(usize::try_from(length).ok()?)?)
    }
}

/// The version that follows a marker, if there is one.
pub fn after(bytes: &[u8], mark: &str) -> Option<String> {
    let mark = mark.as_bytes();
    let is_version = |byte: &&u8| byte.is_ascii_digit() || **byte == b'.';
    let starts = bytes.windows(mark.len()).enumerate().filter(|(_, window)| *window == mark);
    let versions = starts.map(|(at, _)| {
        bytes[at + mark.len()..].iter().take_while(is_version).copied().collect::<Vec<_>>()
    });
    versions
        .filter_map(|version| String::from_utf8(version).ok())
        .find(|version| !version.is_empty())
}
