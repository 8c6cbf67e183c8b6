//! A base that is a root file system in a tar.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::{BaseError, FetchContext};
use crate::digest::Digest;
use crate::image::Base;
use crate::layer::LayerWriter;
use crate::store::StoreError;

/// The tar may be gzipped. It becomes one layer with these very bytes, so the diff ID of a plain
/// tar is the digest that pins it.
pub(super) fn read(
    context: &FetchContext<'_>,
    path: &Path,
    digest: Digest,
) -> Result<Base, BaseError> {
    let error = |source| BaseError::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(error)?;
    let (actual, _) = Digest::of_reader(&mut file).map_err(error)?;
    if actual != digest {
        let name = path.display().to_string();
        return Err(StoreError::Mismatch { name, expected: digest, actual }.into());
    }
    file.seek(SeekFrom::Start(0)).map_err(error)?;
    let mut magic = [0; 2];
    file.read_exact(&mut magic).map_err(error)?;
    file.seek(SeekFrom::Start(0)).map_err(error)?;
    let writer = LayerWriter::new(context.store, context.compression, 0)?;
    let layer = if magic == [0x1f, 0x8b] {
        writer.archive(flate2::read::MultiGzDecoder::new(BufReader::new(file)))?
    } else {
        writer.archive(file)?
    };
    let history = vec![
        serde_json::json!({ "created": "1970-01-01T00:00:00Z", "created_by": format!("rootfs {digest}") }),
    ];
    Ok(Base { layers: vec![layer], history, ..Base::default() })
}
