//! Makes small bbolt files for tests. Each bucket is one leaf page or inline.

use super::{FORMAT_VERSION, MAGIC, fnv1a};

const PAGE_BYTES: usize = 4096;

/// Keys and values, in the order of the keys.
pub type Pairs<'a> = &'a [(&'a str, &'a [u8])];

/// A file with the given buckets; those marked `true` are inline.
pub fn database(buckets: &[(&str, bool, Pairs<'_>)]) -> Vec<u8> {
    let mut pages = Vec::new();
    let mut root = Vec::new();
    for (name, inline, pairs) in buckets {
        let elements: Vec<_> =
            pairs.iter().map(|(key, value)| (0, key.as_bytes(), value.to_vec())).collect();
        let mut header = vec![0; 16];
        if *inline {
            header.extend(leaf(0, &elements));
        } else {
            let id = 4 + pages.len() as u64;
            header[..8].copy_from_slice(&id.to_ne_bytes());
            pages.push(padded(leaf(id, &elements)));
        }
        root.push((1, name.as_bytes(), header));
    }
    let mut file = Vec::new();
    file.extend(padded(meta(0, 1)));
    file.extend(padded(meta(1, 2)));
    // An empty free list.
    file.extend(padded([&2u64.to_ne_bytes()[..], &0x10u64.to_ne_bytes()].concat()));
    file.extend(padded(leaf(3, &root)));
    file.extend(pages.concat());
    file
}

/// A file with one bucket of several leaf pages below a branch page.
pub fn branched(name: &str, leaves: &[Pairs<'_>]) -> Vec<u8> {
    let mut branch = header(4, 0x01, leaves.len());
    let mut keys = Vec::new();
    let mut pages = Vec::new();
    for (index, pairs) in leaves.iter().enumerate() {
        let id = 5 + index as u64;
        let elements: Vec<_> =
            pairs.iter().map(|(key, value)| (0, key.as_bytes(), value.to_vec())).collect();
        let first = elements[0].1;
        let position = (leaves.len() - index) * 16 + keys.len();
        for number in [position, first.len()] {
            branch.extend(u32::try_from(number).unwrap().to_ne_bytes());
        }
        branch.extend(id.to_ne_bytes());
        keys.extend_from_slice(first);
        pages.push(padded(leaf(id, &elements)));
    }
    branch.extend(keys);
    let mut file = database(&[(name, false, &[])]);
    // The page of the empty bucket.
    file.truncate(4 * PAGE_BYTES);
    file.extend(padded(branch));
    file.extend(pages.concat());
    file
}

fn meta(id: u64, transaction: u64) -> Vec<u8> {
    let mut body = Vec::new();
    for word in [MAGIC, FORMAT_VERSION, u32::try_from(PAGE_BYTES).unwrap(), 0] {
        body.extend(word.to_ne_bytes());
    }
    for long in [3, 0, 2, 4, transaction] {
        body.extend(u64::to_ne_bytes(long));
    }
    body.extend(fnv1a(&body).to_ne_bytes());
    [header(id, 0x04, 0), body].concat()
}

fn header(id: u64, flags: u16, count: usize) -> Vec<u8> {
    let count = u16::try_from(count).unwrap();
    [&id.to_ne_bytes()[..], &flags.to_ne_bytes(), &count.to_ne_bytes(), &[0; 4]].concat()
}

fn leaf(id: u64, elements: &[(u32, &[u8], Vec<u8>)]) -> Vec<u8> {
    let mut page = header(id, 0x02, elements.len());
    let mut data = Vec::new();
    for (index, (flags, key, value)) in elements.iter().enumerate() {
        let position = (elements.len() - index) * 16 + data.len();
        page.extend(flags.to_ne_bytes());
        for number in [position, key.len(), value.len()] {
            page.extend(u32::try_from(number).unwrap().to_ne_bytes());
        }
        data.extend_from_slice(key);
        data.extend(value);
    }
    page.extend(data);
    page
}

fn padded(mut page: Vec<u8>) -> Vec<u8> {
    assert!(page.len() <= PAGE_BYTES);
    page.resize(PAGE_BYTES, 0);
    page
}
