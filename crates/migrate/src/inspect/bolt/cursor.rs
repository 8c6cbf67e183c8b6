//! Walks through the keys of a bucket in order, from any of them on. Two cursors can be compared
//! step by step, which the visitors of `Database` cannot.

use std::io::{Read, Seek};

use super::page::Page;
use super::{Bucket, DEEPEST, Database, Error};

/// A key and its value.
pub type KeyValue<'a> = (&'a [u8], &'a [u8]);

/// A place in a bucket.
#[derive(Debug)]
pub struct Cursor<'a, R> {
    database: &'a mut Database<R>,
    /// The pages from the root down to a leaf, each with the place in it. Empty behind the last
    /// key.
    path: Vec<(Vec<u8>, u16)>,
}

impl<R: Read + Seek> Database<R> {
    /// A cursor at the first key of a bucket that is not less than `from`.
    pub fn cursor(&mut self, bucket: &Bucket, from: &[u8]) -> Result<Cursor<'_, R>, Error> {
        let root = match bucket {
            Bucket::Rooted(id) => self.read_page(*id)?,
            Bucket::Inline(bytes) => bytes.clone(),
        };
        let mut cursor = Cursor { database: self, path: Vec::new() };
        cursor.enter(root, from)?;
        while let Some(id) = cursor.child()? {
            let page = cursor.database.read_page(id)?;
            cursor.enter(page, from)?;
        }
        cursor.settle()?;
        Ok(cursor)
    }

    /// The last key of a bucket.
    pub fn last_key(&mut self, bucket: &Bucket) -> Result<Option<Vec<u8>>, Error> {
        let mut bytes = match bucket {
            Bucket::Rooted(id) => self.read_page(*id)?,
            Bucket::Inline(bytes) => bytes.clone(),
        };
        for _ in 0..DEEPEST {
            let page = Page::parse(&bytes)?;
            let Some(last) = page.count().checked_sub(1) else { return Ok(None) };
            if page.is_leaf() {
                return Ok(Some(page.element(last)?.key.to_vec()));
            }
            bytes = self.read_page(page.child(last)?)?;
        }
        Err(Error::Damaged("its tree is deeper than a tree can be"))
    }
}

impl<R: Read + Seek> Cursor<'_, R> {
    /// The key and the value at this place; `None` behind the last one.
    pub fn entry(&self) -> Result<Option<KeyValue<'_>>, Error> {
        let Some((bytes, index)) = self.path.last() else { return Ok(None) };
        let element = Page::parse(bytes)?.element(*index)?;
        Ok(Some((element.key, element.value)))
    }

    /// Goes to the next key.
    pub fn advance(&mut self) -> Result<(), Error> {
        if let Some((_, index)) = self.path.last_mut() {
            *index = index.saturating_add(1);
        }
        self.settle()
    }

    /// Takes a page into the path, at the place where `from` is or would be.
    fn enter(&mut self, bytes: Vec<u8>, from: &[u8]) -> Result<(), Error> {
        if self.path.len() > DEEPEST as usize {
            return Err(Error::Damaged("its tree is deeper than a tree can be"));
        }
        let page = Page::parse(&bytes)?;
        let mut index = 0;
        if page.is_leaf() {
            while index < page.count() && page.element(index)?.key < from {
                index += 1;
            }
        } else {
            // The key of a branch's element is the first one of its child.
            while index + 1 < page.count() && page.child_key(index + 1)? <= from {
                index += 1;
            }
        }
        self.path.push((bytes, index));
        Ok(())
    }

    /// The page that the last one of the path points to; `None` if that is a leaf or has no more.
    fn child(&self) -> Result<Option<u64>, Error> {
        let Some((bytes, index)) = self.path.last() else { return Ok(None) };
        let page = Page::parse(bytes)?;
        if page.is_leaf() || *index >= page.count() {
            Ok(None)
        } else {
            page.child(*index).map(Some)
        }
    }

    /// Goes up from pages that have no more, down to the next leaf, and over nested buckets.
    fn settle(&mut self) -> Result<(), Error> {
        while let Some((bytes, index)) = self.path.last_mut() {
            let page = Page::parse(bytes)?;
            if *index >= page.count() {
                self.path.pop();
                if let Some((_, index)) = self.path.last_mut() {
                    *index = index.saturating_add(1);
                }
            } else if !page.is_leaf() {
                let child = self.database.read_page(page.child(*index)?)?;
                self.enter(child, &[])?;
            } else if page.element(*index)?.is_bucket {
                *index += 1;
            } else {
                return Ok(());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::inspect::bolt::sample;

    fn keys(from: &str, file: Vec<u8>, name: &str) -> Vec<String> {
        let mut database = Database::open(io::Cursor::new(file)).unwrap();
        let bucket = database.bucket(name).unwrap().unwrap();
        let mut cursor = database.cursor(&bucket, from.as_bytes()).unwrap();
        let mut keys = Vec::new();
        while let Some((key, value)) = cursor.entry().unwrap() {
            let text = [key, b"=", value].concat();
            keys.push(String::from_utf8(text).unwrap());
            cursor.advance().unwrap();
        }
        cursor.advance().unwrap();
        assert!(cursor.entry().unwrap().is_none());
        let last = database.last_key(&bucket).unwrap();
        assert!(keys.is_empty() || keys.last().unwrap().as_bytes().starts_with(&last.unwrap()));
        keys
    }

    #[test]
    fn a_cursor_begins_anywhere_in_a_bucket() {
        let pairs: sample::Pairs<'_> = &[("a", b"1"), ("c", b""), ("e", b"3")];
        for is_inline in [true, false] {
            let file = || sample::database(&[("key", is_inline, pairs), ("none", is_inline, &[])]);
            assert_eq!(keys("", file(), "key"), ["a=1", "c=", "e=3"]);
            assert_eq!(keys("b", file(), "key"), ["c=", "e=3"]);
            assert_eq!(keys("c", file(), "key"), ["c=", "e=3"]);
            assert_eq!(keys("f", file(), "key"), [""; 0]);
            assert_eq!(keys("", file(), "none"), [""; 0]);
        }
    }

    #[test]
    fn a_cursor_goes_over_branches() {
        let file =
            sample::branched("key", &[&[("a", b"1"), ("c", b"2")], &[("e", b"3")], &[("g", b"4")]]);
        for (from, count) in [("", 4), ("b", 3), ("c", 3), ("d", 2), ("e", 2), ("f", 1), ("h", 0)] {
            assert_eq!(keys(from, file.clone(), "key").len(), count, "{from}");
        }
    }

    #[test]
    fn a_file_that_is_cut_or_damaged_ends_a_cursor_with_an_error() {
        let file = sample::branched("key", &[&[("a", b"1"), ("c", b"2")], &[("e", b"3")]]);
        let walk = |file: Vec<u8>| {
            let mut database = Database::open(io::Cursor::new(file))?;
            let bucket = database.bucket("key")?.ok_or(Error::Damaged("no bucket"))?;
            let mut cursor = database.cursor(&bucket, b"")?;
            let mut count = 0;
            while cursor.entry()?.is_some() {
                count += 1;
                cursor.advance()?;
            }
            Ok::<_, Error>(count)
        };
        assert_eq!(walk(file.clone()).unwrap(), 3);
        assert!((0..file.len()).step_by(61).all(|length| walk(file[..length].to_vec()).is_err()));
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2000 {
            let mut file = file.clone();
            for _ in 0..4 {
                let at = random.usize(4096 * 3..file.len());
                file[at] = random.u8(..);
            }
            // Whatever it says, it comes to an end.
            let _ = walk(file);
        }
    }
}
