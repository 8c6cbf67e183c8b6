//! One page: a header, then elements that point at their keys and values.

use super::Error;

/// The length of the header.
pub const HEADER_BYTES: usize = 16;
const ELEMENT_BYTES: usize = 16;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const BUCKET: u32 = 0x01;

/// A page with its header read.
pub struct Page<'a> {
    bytes: &'a [u8],
    id: u64,
    flags: u16,
    count: u16,
    overflow: u32,
}

/// A key and its value in a leaf page.
pub struct Element<'a> {
    pub is_bucket: bool,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

impl<'a> Page<'a> {
    /// Reads the header. An error if this is not a branch page or a leaf page.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let page = Self {
            bytes,
            id: u64::from_ne_bytes(number_at(bytes, 0)?),
            flags: u16::from_ne_bytes(number_at(bytes, 8)?),
            count: u16::from_ne_bytes(number_at(bytes, 10)?),
            overflow: u32::from_ne_bytes(number_at(bytes, 12)?),
        };
        if page.flags & (BRANCH | LEAF) == 0 || page.flags & (BRANCH | LEAF) == (BRANCH | LEAF) {
            return Err(Error::Damaged("a page is neither branch nor leaf"));
        }
        Ok(page)
    }

    /// The number of the page, as the page itself has it.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn is_leaf(&self) -> bool {
        self.flags & LEAF != 0
    }

    /// How many elements it has.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// How many pages follow that belong to it.
    pub fn overflow(&self) -> u32 {
        self.overflow
    }

    /// The page that a branch's element points to.
    pub fn child(&self, index: u16) -> Result<u64, Error> {
        number_at(self.bytes, element_at(index) + 8).map(u64::from_ne_bytes)
    }

    /// The first key of the page that a branch's element points to.
    pub fn child_key(&self, index: u16) -> Result<&'a [u8], Error> {
        let start = element_at(index);
        let word = |at| number_at::<4>(self.bytes, start + at).map(u32::from_ne_bytes);
        let [position, key_bytes] = [word(0)?, word(4)?].map(u64::from);
        let key_start = start as u64 + position;
        self.slice(key_start, key_start + key_bytes)
    }

    /// An element of a leaf.
    pub fn element(&self, index: u16) -> Result<Element<'a>, Error> {
        let start = element_at(index);
        let word = |at| number_at::<4>(self.bytes, start + at).map(u32::from_ne_bytes);
        let [flags, position, key_bytes, value_bytes] =
            [word(0)?, word(4)?, word(8)?, word(12)?].map(u64::from);
        // In 64 bits none of these sums can overflow.
        let key_start = start as u64 + position;
        let value_start = key_start + key_bytes;
        Ok(Element {
            is_bucket: flags & u64::from(BUCKET) != 0,
            key: self.slice(key_start, value_start)?,
            value: self.slice(value_start, value_start + value_bytes)?,
        })
    }

    fn slice(&self, start: u64, end: u64) -> Result<&'a [u8], Error> {
        let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        range
            .and_then(|(start, end)| self.bytes.get(start..end))
            .ok_or(Error::Damaged("an element lies outside its page"))
    }
}

fn element_at(index: u16) -> usize {
    HEADER_BYTES + usize::from(index) * ELEMENT_BYTES
}

/// The bytes of a number. An error if the page ends before.
pub fn number_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Error> {
    let slice = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    slice.copied().ok_or(Error::Damaged("a page is cut short"))
}
