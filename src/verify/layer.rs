use std::fs::File;
use std::io::{self, BufReader, Read};

use oci_spec::image::Descriptor;

use super::contents::Contents;
use crate::digest::{Digest, Hasher};
use crate::layout::Layout;

/// Reads a layer once: its stored bytes, its tar and its files are all looked at on the way.
pub(super) fn read(
    layout: &Layout,
    descriptor: &Descriptor,
    diff_id: &str,
    contents: &mut Contents<'_>,
) -> Result<Digest, String> {
    let digest: Digest =
        descriptor.digest().to_string().parse().map_err(|error| format!("{error}"))?;
    let name = format!("layer {}", digest.short());
    let file = File::open(layout.blob_path(&digest)).map_err(|error| format!("{name}: {error}"))?;
    let mut stored = Hashing::new(BufReader::with_capacity(1 << 17, file));
    let is_ours = super::is_ours(descriptor);
    let (actual_diff_id, unreadable) = decompress(&mut stored, descriptor, is_ours, contents);
    if is_ours {
        contents.end_of_layer(&name);
    }
    io::copy(&mut stored, &mut io::sink()).map_err(|error| format!("{name}: {error}"))?;
    let (actual, size) = stored.hasher.finish();
    // The stored bytes come first: when they are wrong, everything in them may be.
    if actual != digest {
        return Err(format!(
            "{name}: the blob is not what its name says: expected {digest}, received {actual}"
        ));
    }
    if size != descriptor.size() {
        return Err(format!(
            "{name}: the size is {size}, its descriptor says {}",
            descriptor.size()
        ));
    }
    if let Some(error) = unreadable {
        return Err(format!("{name}: cannot be read: {error}"));
    }
    if actual_diff_id.to_string() != diff_id {
        return Err(format!(
            "{name}: the diff ID is wrong: expected {diff_id}, received {actual_diff_id}"
        ));
    }
    Ok(digest)
}

fn decompress(
    stored: &mut impl Read,
    descriptor: &Descriptor,
    is_ours: bool,
    contents: &mut Contents<'_>,
) -> (Digest, Option<io::Error>) {
    let media_type = descriptor.media_type().to_string();
    let plain: io::Result<Box<dyn Read>> = if media_type.ends_with("+gzip") {
        Ok(Box::new(flate2::read::MultiGzDecoder::new(stored)))
    } else if media_type.ends_with("+zstd") {
        zstd::Decoder::new(stored).map(|decoder| Box::new(decoder) as Box<dyn Read>)
    } else {
        Ok(Box::new(stored))
    };
    let mut plain = match plain {
        Ok(plain) => Hashing::new(plain),
        Err(error) => return (Digest::of(""), Some(error)),
    };
    let read = walk(&mut plain, is_ours, contents);
    let rest = io::copy(&mut plain, &mut io::sink());
    (plain.hasher.finish().0, read.err().or(rest.err()))
}

fn walk(plain: &mut impl Read, is_ours: bool, contents: &mut Contents<'_>) -> io::Result<()> {
    let mut tar = tar::Archive::new(plain);
    for entry in tar.entries()? {
        let mut entry = entry?;
        if is_ours {
            contents.entry(&mut entry)?;
        } else {
            contents.base_entry(&entry);
        }
    }
    Ok(())
}

/// Hashes what is read through it.
struct Hashing<R> {
    inner: R,
    hasher: Hasher,
}

impl<R> Hashing<R> {
    fn new(inner: R) -> Self {
        Self { inner, hasher: Hasher::default() }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}
