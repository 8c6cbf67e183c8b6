//! What `bench push` pushes: an index of seven images, 42 blobs, 117 MB, of bytes that
//! cannot be compressed.

use std::path::Path;

use oci::document::PlatformFields;
use oci::{Digest, ImageConfig};

use crate::error::Result;
use crate::oci_layout::LayoutWriter;
use crate::root_tar::RootTar;

const ARCHITECTURES: [&str; 7] =
    ["amd64", "arm", "arm64", "ppc64le", "riscv64", "s390x", "mips64le"];

/// Layers for four versions of etcd.
const N_LARGE: usize = 4;
const LARGE_BYTES: usize = 4_150_000;

/// The last layer: what a revision bump changes.
const SMALL_BYTES: usize = 120_000;

/// Stored, not compressed.
const LEVEL: u32 = 0;

/// The tag of a revision.
pub fn tag(revision: u32) -> String {
    format!("3.7.1-{revision}")
}

/// Writes the layout of a revision. Another revision has other last layers.
pub fn write(folder: &Path, revision: u32) -> Result<()> {
    let layout = LayoutWriter::create(folder)?;
    let mut manifests = Vec::new();
    for architecture in ARCHITECTURES {
        let large = (0..N_LARGE).map(|number| (format!("{architecture}{number}"), LARGE_BYTES));
        let small = (format!("{architecture}-last{revision}"), SMALL_BYTES);
        let layers =
            large.chain([small]).map(|(name, size)| layout.layer(&tar(&name, size)?, LEVEL));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let platform = PlatformFields {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            ..PlatformFields::default()
        };
        let config = ImageConfig { platform, ..ImageConfig::default() };
        manifests.push(layout.image(&layers, config, None)?);
    }
    layout.tag(&tag(revision), layout.index(manifests)?)
}

/// A tar that an engine can unpack.
fn tar(name: &str, size: usize) -> Result<Vec<u8>> {
    let mut root = RootTar::default();
    root.file(name, 0o644, random(name, size));
    Ok(root.bytes()?)
}

/// The same bytes for the same name: Marsaglia's xorshift, from a digest of the name.
fn random(name: &str, size: usize) -> Vec<u8> {
    let seed = Digest::of(name).hex();
    let mut state = u64::from_str_radix(&seed[..16], 16).unwrap_or_default() | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;

    #[test]
    fn a_revision_changes_the_last_layers_and_all_documents() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = |revision: u32| {
            let root = folder.path().join(revision.to_string());
            write(&root, revision).unwrap();
            let entries = fs::read_dir(root.join("blobs/sha256")).unwrap();
            entries.map(|it| it.unwrap().file_name()).collect::<BTreeSet<_>>()
        };
        let (first, second) = (blobs(0), blobs(1));
        // 35 layers, 7 configs, 7 manifests and the index.
        assert_eq!((first.len(), second.len()), (50, 50));
        assert_eq!(first.intersection(&second).count(), 28);
    }
}
