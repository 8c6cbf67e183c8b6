//! Compares the contents of files.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Whether two files hold the same bytes.
pub fn has_same_bytes(one: &Path, other: &Path) -> io::Result<bool> {
    let mut files = [File::open(one)?, File::open(other)?];
    let mut blocks = [vec![0; 1 << 16], vec![0; 1 << 16]];
    loop {
        let mut lengths = [0; 2];
        for ((file, block), length) in files.iter_mut().zip(&mut blocks).zip(&mut lengths) {
            while *length < block.len() {
                match file.read(&mut block[*length..])? {
                    0 => break,
                    count => *length += count,
                }
            }
        }
        let [one, other] = [&blocks[0][..lengths[0]], &blocks[1][..lengths[1]]];
        if one != other || one.is_empty() {
            return Ok(one == other);
        }
    }
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
        let is_same = |other: &[u8]| {
            scratch.write("other", other);
            let [one, other] = ["one", "other"].map(|name| scratch.path().join(name));
            has_same_bytes(&one, &other).unwrap() && has_same_bytes(&other, &one).unwrap()
        };
        assert!(is_same(&vec![7; LENGTH]));
        assert!(!is_same(&vec![7; LENGTH - 1]));
        assert!(!is_same(&vec![7; 1 << 16]));
        assert!(!is_same(b""));
        for at in [0, 1 << 16, LENGTH - 1] {
            let mut bytes = vec![7; LENGTH];
            bytes[at] = 8;
            assert!(!is_same(&bytes), "{at}");
        }
    }
}
