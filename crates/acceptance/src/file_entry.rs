//! What the tar entry of a file in an image says about it.

/// A file of the image, as its tar entry describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    pub kind: FileKind,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub size_bytes: u64,
    /// Whether it is from a layer of etcdimg, by the layer's annotation.
    pub layer: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    File,
    Directory,
    SymbolicLink(String),
    HardLink(String),
    Other,
}
