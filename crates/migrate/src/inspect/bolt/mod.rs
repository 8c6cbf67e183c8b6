//! Reads bbolt files, the format of `member/snap/db`.
//!
//! The files may be damaged: every read is limited by the size of the file, the number of pages
//! that are visited is limited, and nothing here panics or trusts a length. Does not write, does
//! not read free lists, and does not know what etcd keeps in its buckets.
//!
//! bbolt writes numbers in the byte order of the machine, so this reads them in that order.

mod cursor;
mod page;
mod read_ahead;
#[cfg(test)]
pub mod sample;

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::ControlFlow;

pub use cursor::Cursor;
use page::{Element, Page};
use read_ahead::ReadAhead;

const MAGIC: u32 = 0xED0C_DAED;
const FORMAT_VERSION: u32 = 2;
const META_BYTES: usize = 64;
const SMALLEST_PAGE: u64 = 512;
const LARGEST_PAGE: u64 = 65536;
/// etcd refuses requests of more than 1.5 MiB unless told otherwise, and a page holds at most one
/// such value and its neighbours.
const LARGEST_RUN: u64 = 256 << 20;
/// A deeper tree would have more pages than any disk.
const DEEPEST: u32 = 64;

/// Why a file cannot be read.
#[derive(Debug)]
pub enum Error {
    Io(io::Error),
    /// The file is not a complete bbolt file; the text says what is wrong.
    Damaged(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Damaged(what) => write!(f, "not a whole bbolt file: {what}"),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::Damaged("it ends in the middle of a page")
        } else {
            Self::Io(error)
        }
    }
}

/// An open file.
#[derive(Debug)]
pub struct Database<R> {
    source: ReadAhead<R>,
    size_bytes: u64,
    page_bytes: u64,
    root: u64,
    /// How many pages may still be read, so that even pages in a circle come to an end.
    budget: u64,
}

/// A bucket: where its pages are.
#[derive(Clone, Debug)]
pub enum Bucket {
    /// The number of its root page.
    Rooted(u64),
    /// The page of a small bucket, which is kept inside the page of its parent.
    Inline(Vec<u8>),
}

struct Meta {
    page_bytes: u64,
    root: u64,
    transaction: u64,
}

impl<R: Read + Seek> Database<R> {
    /// Reads the meta pages; the newer valid one counts.
    pub fn open(mut source: R) -> Result<Self, Error> {
        let size_bytes = source.seek(SeekFrom::End(0))?;
        let first = read_meta(&mut source, 0)?;
        // When the first page is damaged its page size is unknown, so the second is searched for.
        let sizes = match &first {
            Some(meta) => vec![meta.page_bytes],
            None => (9..=16).map(|power| 1 << power).collect(),
        };
        let mut newest = first;
        for page_bytes in sizes {
            let second = read_meta(&mut source, page_bytes)?;
            newest = newest
                .into_iter()
                .chain(second.filter(|meta| meta.page_bytes == page_bytes))
                .max_by_key(|meta| meta.transaction);
        }
        let meta = newest.ok_or(Error::Damaged("neither of its two first pages is valid"))?;
        let pages = size_bytes / meta.page_bytes;
        Ok(Self {
            source: ReadAhead::new(source, size_bytes),
            size_bytes,
            page_bytes: meta.page_bytes,
            root: meta.root,
            // Inline buckets and several look-ups visit pages again; a file has few top buckets.
            budget: pages.saturating_mul(4).saturating_add(1024),
        })
    }

    /// The size of the file.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// A top-level bucket.
    pub fn bucket(&mut self, name: &str) -> Result<Option<Bucket>, Error> {
        let mut found = None;
        let root = Bucket::Rooted(self.root);
        self.visit_bucket(&root, &mut |element| {
            if element.is_bucket && element.key == name.as_bytes() {
                found = Some(Bucket::parse(element.value));
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        found.transpose()
    }

    /// The value of a key.
    pub fn get(&mut self, bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let mut found = None;
        self.visit_bucket(bucket, &mut |element| {
            if !element.is_bucket && element.key == key.as_bytes() {
                found = Some(element.value.to_vec());
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Whether a bucket holds no key.
    pub fn is_empty(&mut self, bucket: &Bucket) -> Result<bool, Error> {
        let mut is_empty = true;
        self.visit_bucket(bucket, &mut |_| {
            is_empty = false;
            ControlFlow::Break(())
        })?;
        Ok(is_empty)
    }

    /// Calls `visit` with every key and value of a bucket, in order.
    pub fn each(
        &mut self,
        bucket: &Bucket,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), Error> {
        self.visit_bucket(bucket, &mut |element| {
            if !element.is_bucket {
                visit(element.key, element.value);
            }
            ControlFlow::Continue(())
        })
    }

    fn visit_bucket(&mut self, bucket: &Bucket, visit: &mut Visit<'_>) -> Result<(), Error> {
        let outcome = match bucket {
            Bucket::Rooted(root) => self.visit_page(*root, 0, visit)?,
            Bucket::Inline(bytes) => visit_leaf(&Page::parse(bytes)?, visit)?,
        };
        let (ControlFlow::Continue(()) | ControlFlow::Break(())) = outcome;
        Ok(())
    }

    fn visit_page(
        &mut self,
        id: u64,
        depth: u32,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>, Error> {
        if depth > DEEPEST {
            return Err(Error::Damaged("its tree is deeper than a tree can be"));
        }
        let bytes = self.read_page(id)?;
        let page = Page::parse(&bytes)?;
        if page.is_leaf() {
            return visit_leaf(&page, visit);
        }
        for index in 0..page.count() {
            if self.visit_page(page.child(index)?, depth + 1, visit)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// A page and the overflow pages that follow it.
    fn read_page(&mut self, id: u64) -> Result<Vec<u8>, Error> {
        self.budget =
            self.budget.checked_sub(1).ok_or(Error::Damaged("its pages point in a circle"))?;
        let start = id
            .checked_mul(self.page_bytes)
            .filter(|start| *start < self.size_bytes)
            .ok_or(Error::Damaged("a page lies behind its end"))?;
        let length = |pages: u64| {
            let length = pages * self.page_bytes;
            let is_within = length <= LARGEST_RUN && length <= self.size_bytes - start;
            usize::try_from(length)
                .ok()
                .filter(|_| is_within)
                .ok_or(Error::Damaged("a page is longer than the file"))
        };
        // Most pages have no others that belong to them.
        let mut bytes = vec![0; length(1)?];
        self.source.read_at(start, &mut bytes)?;
        let page = Page::parse(&bytes)?;
        if page.id() != id {
            return Err(Error::Damaged("a page carries another page's number"));
        }
        let (first, whole) = (bytes.len(), length(1 + u64::from(page.overflow()))?);
        if whole > first {
            let head = std::mem::replace(&mut bytes, vec![0; whole]);
            bytes[..first].copy_from_slice(&head);
            self.source.read_at(start + first as u64, &mut bytes[first..])?;
        }
        Ok(bytes)
    }
}

type Visit<'a> = dyn FnMut(&Element<'_>) -> ControlFlow<()> + 'a;

fn visit_leaf(page: &Page<'_>, visit: &mut Visit<'_>) -> Result<ControlFlow<()>, Error> {
    if !page.is_leaf() {
        return Err(Error::Damaged("an inline page is not a leaf"));
    }
    for index in 0..page.count() {
        if visit(&page.element(index)?).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

impl Bucket {
    /// The value of a bucket's element: root page and sequence, then perhaps an inline page.
    fn parse(value: &[u8]) -> Result<Self, Error> {
        let root = page::number_at::<8>(value, 0).map(u64::from_ne_bytes)?;
        if root != 0 {
            return Ok(Self::Rooted(root));
        }
        let inline = value.get(16..).ok_or(Error::Damaged("a bucket is cut short"))?;
        Ok(Self::Inline(inline.to_vec()))
    }
}

fn read_meta<R: Read + Seek>(source: &mut R, offset: u64) -> Result<Option<Meta>, Error> {
    source.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    let wanted = page::HEADER_BYTES + META_BYTES;
    source.take(wanted as u64).read_to_end(&mut bytes)?;
    let Some(meta) = bytes.get(page::HEADER_BYTES..wanted) else { return Ok(None) };
    let word = |at| page::number_at::<4>(meta, at).map(u32::from_ne_bytes);
    let long = |at| page::number_at::<8>(meta, at).map(u64::from_ne_bytes);
    let page_bytes = u64::from(word(8)?);
    let is_valid = word(0)? == MAGIC
        && word(4)? == FORMAT_VERSION
        && long(56)? == fnv1a(&meta[..56])
        && page_bytes.is_power_of_two()
        && (SMALLEST_PAGE..=LARGEST_PAGE).contains(&page_bytes);
    Ok(is_valid.then_some(Meta { page_bytes, root: long(16)?, transaction: long(48)? }))
}

/// The 64-bit FNV-1a hash that guards a meta page.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
