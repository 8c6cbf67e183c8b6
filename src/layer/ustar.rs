//! The tar format of our layers: POSIX ustar, written by hand so that no library decides a byte.
//!
//! There is no owner to choose: it is always root. The time is the same for the whole image.

/// The type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind<'a> {
    Directory,
    File {
        size: u64,
    },
    /// A second name of an earlier entry.
    HardLink {
        to: &'a str,
    },
    Symlink {
        to: &'a str,
    },
    /// PAX records for the entry that follows.
    Records {
        size: u64,
    },
}

pub const BLOCK: usize = 512;

/// Why a header cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A path or the target of a link.
    #[error("`{0}` is too long for a ustar header")]
    Path(String),
    /// A size or a time.
    #[error("{0} is too large for a ustar header")]
    Number(u64),
}

/// One header block.
pub fn header(
    path: &str,
    mode: u32,
    mtime: u64,
    kind: EntryKind<'_>,
) -> Result<[u8; BLOCK], HeaderError> {
    let mut block = [0; BLOCK];
    let (prefix, name) = split(path)?;
    let (type_flag, size, link) = match kind {
        EntryKind::File { size } => (b'0', size, ""),
        EntryKind::HardLink { to } => (b'1', 0, to),
        EntryKind::Symlink { to } => (b'2', 0, to),
        EntryKind::Directory => (b'5', 0, ""),
        EntryKind::Records { size } => (b'x', size, ""),
    };
    if link.len() > 100 {
        return Err(HeaderError::Path(link.to_owned()));
    }
    put(&mut block, 0, name.as_bytes());
    put_octal(&mut block[100..108], u64::from(mode))?;
    put_octal(&mut block[108..116], 0)?;
    put_octal(&mut block[116..124], 0)?;
    put_octal(&mut block[124..136], size)?;
    put_octal(&mut block[136..148], mtime)?;
    block[156] = type_flag;
    put(&mut block, 157, link.as_bytes());
    put(&mut block, 257, b"ustar\x0000");
    put_octal(&mut block[329..337], 0)?;
    put_octal(&mut block[337..345], 0)?;
    put(&mut block, 345, prefix.as_bytes());
    put_checksum(&mut block)?;
    Ok(block)
}

/// How many zero bytes follow a file of this size.
pub fn padding(size: u64) -> usize {
    let block = BLOCK as u64;
    usize::try_from((block - size % block) % block).expect("less than a block")
}

fn split(path: &str) -> Result<(&str, &str), HeaderError> {
    if path.len() <= 100 {
        return Ok(("", path));
    }
    let fits =
        |(i, _): &(usize, &str)| *i <= 155 && path.len() - i - 1 <= 100 && i + 1 < path.len();
    let (i, _) =
        path.match_indices('/').find(fits).ok_or_else(|| HeaderError::Path(path.to_owned()))?;
    Ok((&path[..i], &path[i + 1..]))
}

fn put(block: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Octal digits with leading zeros, followed by a NUL.
fn put_octal(field: &mut [u8], number: u64) -> Result<(), HeaderError> {
    let width = field.len() - 1;
    let digits = format!("{number:0width$o}");
    if digits.len() > width {
        return Err(HeaderError::Number(number));
    }
    field[..width].copy_from_slice(digits.as_bytes());
    Ok(())
}

/// The sum of all bytes, computed with spaces in the checksum field: six digits, a NUL, a space.
fn put_checksum(block: &mut [u8; BLOCK]) -> Result<(), HeaderError> {
    block[148..156].fill(b' ');
    let sum = block.iter().map(|byte| u64::from(*byte)).sum();
    put_octal(&mut block[148..155], sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tar_crate_reads_what_we_write() {
        check("usr/local/bin/", 0o755, EntryKind::Directory);
        check("usr/local/bin/etcd-3.7.1", 0o555, EntryKind::File { size: 0 });
        check("usr/local/bin/etcd", 0o555, EntryKind::HardLink { to: "usr/local/bin/etcd-3.7.1" });
        check("bin/sh", 0o777, EntryKind::Symlink { to: "busybox" });
        check(
            &format!("{}/{}", "d".repeat(120), "f".repeat(90)),
            0o644,
            EntryKind::File { size: 0 },
        );
    }

    #[track_caller]
    fn check(path: &str, mode: u32, kind: EntryKind<'_>) {
        let block = header(path, mode, 1_700_000_000, kind).unwrap();
        let mut archive = tar::Archive::new(&block[..]);
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        let read = entry.header();
        assert_eq!(entry.path().unwrap().to_str().unwrap(), path);
        assert_eq!(read.mode().unwrap(), mode);
        assert_eq!(read.mtime().unwrap(), 1_700_000_000);
        assert_eq!((read.uid().unwrap(), read.gid().unwrap()), (0, 0));
        let link = entry.link_name().unwrap().map(|link| link.to_string_lossy().into_owned());
        match kind {
            EntryKind::HardLink { to } | EntryKind::Symlink { to } => assert_eq!(link.unwrap(), to),
            EntryKind::File { .. } | EntryKind::Directory | EntryKind::Records { .. } => {
                assert_eq!(link, None);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert!(header(&"x".repeat(101), 0, 0, EntryKind::Directory).is_err());
        assert!(header("x", 0, 0, EntryKind::File { size: 1 << 33 }).is_err());
        assert!(header("x", 0, 0, EntryKind::File { size: (1 << 33) - 1 }).is_ok());
    }
}
