//! Compares the contents of files.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Whether two files hold the same bytes.
pub fn has_same_bytes(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (File::open(one)?, File::open(other)?);
    let length = one.metadata()?.len();
    Ok(other.metadata()?.len() == length && has_same_part(&one, &other, 0, length)?)
}

/// Whether two files hold the same `length` bytes from `at` on.
pub fn has_same_part(one: &File, other: &File, at: u64, length: u64) -> io::Result<bool> {
    const STEP: usize = 1 << 16;
    let mut blocks = [vec![0; STEP], vec![0; STEP]];
    let mut files = [one, other];
    for file in &mut files {
        file.seek(SeekFrom::Start(at))?;
    }
    let mut rest = length;
    while rest > 0 {
        let count = usize::try_from(rest).unwrap_or(STEP).min(STEP);
        for (file, block) in files.iter_mut().zip(&mut blocks) {
            match file.read_exact(&mut block[..count]) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                read => read?,
            }
        }
        if blocks[0][..count] != blocks[1][..count] {
            return Ok(false);
        }
        rest -= count as u64;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::ScratchDirectory;

    #[test]
    fn every_byte_and_the_length_count() {
        const LENGTH: usize = (1 << 17) + 5;
        let scratch = ScratchDirectory::new();
        scratch.write("one", &vec![7; LENGTH]);
        let [one, other] = ["one", "other"].map(|name| scratch.path().join(name));
        let is_same = |bytes: &[u8]| {
            scratch.write("other", bytes);
            has_same_bytes(&one, &other).unwrap() && has_same_bytes(&other, &one).unwrap()
        };
        let is_same_from = |at: usize| {
            let [one, other] = [&one, &other].map(|path| File::open(path).unwrap());
            has_same_part(&one, &other, at as u64, (LENGTH - at) as u64).unwrap()
        };
        assert!(is_same(&vec![7; LENGTH]));
        assert!(!is_same(&vec![7; LENGTH - 1]));
        assert!(!is_same_from(LENGTH - 2));
        assert!(!is_same(&vec![7; 1 << 16]));
        assert!(!is_same(b""));
        for at in [0, 1 << 16, LENGTH - 1] {
            let mut bytes = vec![7; LENGTH];
            bytes[at] = 8;
            assert!(!is_same(&bytes), "{at}");
            assert!(!is_same_from(at) && is_same_from(at + 1), "{at}");
        }
    }
}
