//! Reads one layer and checks its digests.

use std::fs::File;
use std::io::{self, BufReader, Read};

use oci_spec::image::Descriptor;

use super::image_contents::ImageContents;
use crate::digest::{Digest, DigestError, Hasher};
use crate::layout::Layout;

/// What is wrong with a layer.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayerFault {
    #[error(transparent)]
    Digest(#[from] DigestError),
    #[error("layer {}: {source}", digest.short())]
    Io { digest: Digest, source: io::Error },
    #[error(
        "layer {}: the blob is not what its name says: expected {digest}, received {actual}",
        digest.short()
    )]
    WrongDigest { digest: Digest, actual: Digest },
    #[error("layer {}: the size is {actual}, its descriptor says {expected}", digest.short())]
    WrongSize { digest: Digest, expected: u64, actual: u64 },
    #[error("layer {}: cannot be read: {source}", digest.short())]
    Unreadable { digest: Digest, source: io::Error },
    #[error(
        "layer {}: the diff ID is wrong: expected {expected}, received {actual}",
        digest.short()
    )]
    WrongDiffId { digest: Digest, expected: String, actual: Digest },
}

/// Reads a layer once: its stored bytes, its tar and its files are all checked on the way.
pub(super) fn read(
    layout: &Layout,
    descriptor: &Descriptor,
    diff_id: &str,
    contents: &mut ImageContents<'_>,
) -> Result<Digest, LayerFault> {
    let digest: Digest = descriptor.digest().to_string().parse()?;
    let io_error = |source| LayerFault::Io { digest, source };
    let file = File::open(layout.blob_path(&digest)).map_err(io_error)?;
    let mut stored = HashingReader::new(BufReader::with_capacity(1 << 17, file));
    let is_ours = super::is_ours(descriptor);
    let (actual_diff_id, unreadable) = decompress(&mut stored, descriptor, is_ours, contents);
    if is_ours {
        contents.end_of_layer(&format!("layer {}", digest.short()));
    }
    io::copy(&mut stored, &mut io::sink()).map_err(io_error)?;
    let (actual, size) = stored.hasher.finish();
    // The stored bytes are checked first: if they are wrong, everything in them may be wrong.
    if actual != digest {
        return Err(LayerFault::WrongDigest { digest, actual });
    }
    if size != descriptor.size() {
        let expected = descriptor.size();
        return Err(LayerFault::WrongSize { digest, expected, actual: size });
    }
    if let Some(source) = unreadable {
        return Err(LayerFault::Unreadable { digest, source });
    }
    if actual_diff_id.to_string() != diff_id {
        let expected = diff_id.to_owned();
        return Err(LayerFault::WrongDiffId { digest, expected, actual: actual_diff_id });
    }
    Ok(digest)
}

fn decompress(
    stored: &mut impl Read,
    descriptor: &Descriptor,
    is_ours: bool,
    contents: &mut ImageContents<'_>,
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
        Ok(plain) => HashingReader::new(plain),
        Err(error) => return (Digest::of(""), Some(error)),
    };
    let read = read_entries(&mut plain, is_ours, contents);
    let rest = io::copy(&mut plain, &mut io::sink());
    (plain.hasher.finish().0, read.err().or(rest.err()))
}

fn read_entries(
    plain: &mut impl Read,
    is_ours: bool,
    contents: &mut ImageContents<'_>,
) -> io::Result<()> {
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

/// Hashes everything that is read through it.
struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
}

impl<R> HashingReader<R> {
    fn new(inner: R) -> Self {
        Self { inner, hasher: Hasher::default() }
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}
