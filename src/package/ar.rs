//! The `ar` archive that a Debian package is (deb(5)): three members, written by hand so that no
//! library decides a byte.
//!
//! There is no owner to choose: it is always root.

use std::io::{self, Read, Write};

const MAGIC: &[u8] = b"!<arch>\n";
const MODE: &str = "100644";

/// A member: a name of at most 16 bytes, its size, and where its bytes come from.
pub(super) struct Member<'a> {
    pub name: &'a str,
    pub size: u64,
    pub content: &'a mut dyn Read,
}

/// Writes an archive. `mtime` is the time of every member.
pub(super) fn write(
    out: &mut impl Write,
    mtime: u64,
    members: &mut [Member<'_>],
) -> io::Result<()> {
    out.write_all(MAGIC)?;
    for Member { name, size, content } in members {
        out.write_all(header(name, mtime, *size)?.as_bytes())?;
        let n = io::copy(&mut content.take(*size), out)?;
        if n != *size {
            let text = format!("`{name}` ended after {n} of {size} bytes");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        // Every header begins at an even place.
        if n % 2 == 1 {
            out.write_all(b"\n")?;
        }
    }
    Ok(())
}

fn header(name: &str, mtime: u64, size: u64) -> io::Result<String> {
    let header = format!("{name:<16}{mtime:<12}{:<6}{:<6}{MODE:<8}{size:<10}`\n", 0, 0);
    // A field that is too long would shift all behind it.
    if header.len() == 60 {
        return Ok(header);
    }
    let text = format!("`{name}` does not fit into the header of an ar archive");
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(mtime: u64, members: &[(&str, &str, u64)]) -> io::Result<String> {
        let mut contents: Vec<_> = members.iter().map(|(_, text, _)| text.as_bytes()).collect();
        let mut members: Vec<_> = (members.iter().zip(&mut contents))
            .map(|((name, _, size), content)| Member { name, size: *size, content })
            .collect();
        let mut out = Vec::new();
        write(&mut out, mtime, &mut members)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn an_archive_is_as_ar_writes_it() {
        let text = archive(7, &[("debian-binary", "2.0\n", 4), ("odd", "x", 1)]).unwrap();
        insta::assert_snapshot!(text, @"
        !<arch>
        debian-binary   7           0     0     100644  4         `
        2.0
        odd             7           0     0     100644  1         `
        x
        ");
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert!(archive(0, &[("a-name-of-17-bytes", "", 0)]).is_err());
        assert!(archive(u64::MAX, &[("data", "", 0)]).is_err());
        let short = archive(0, &[("data", "12", 3)]).unwrap_err();
        assert_eq!(short.to_string(), "`data` ended after 2 of 3 bytes");
    }
}
