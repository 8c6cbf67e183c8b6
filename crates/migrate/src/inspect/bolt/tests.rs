//! The reader meets whole, cut and damaged files.

use std::io::Cursor;

use fastrand::Rng;

use super::*;

fn example() -> Vec<u8> {
    sample::database(&[
        ("cluster", true, &[("clusterVersion", b"3.5.0"), ("downgrade", b"{}")]),
        ("key", false, &[("a", b"1"), ("b", b"2"), ("c", b"")]),
        ("meta", false, &[("consistent_index", &[0, 0, 0, 0, 0, 0, 1, 2]), ("term", &[9])]),
    ])
}

/// Reads everything that `data_dir` reads, and more.
fn read_all(bytes: Vec<u8>) -> Result<usize, Error> {
    let mut database = Database::open(Cursor::new(bytes))?;
    let mut count = 0;
    for name in ["cluster", "key", "meta", "none"] {
        if let Some(bucket) = database.bucket(name)? {
            database.each(&bucket, &mut |_, _| count += 1)?;
            database.get(&bucket, "term")?;
        }
    }
    Ok(count)
}

#[test]
fn keys_are_found_in_inline_and_in_rooted_buckets() {
    let mut database = Database::open(Cursor::new(example())).unwrap();
    let cluster = database.bucket("cluster").unwrap().unwrap();
    assert_eq!(database.get(&cluster, "clusterVersion").unwrap().unwrap(), b"3.5.0");
    assert_eq!(database.get(&cluster, "cluster").unwrap(), None);
    let meta = database.bucket("meta").unwrap().unwrap();
    assert_eq!(database.get(&meta, "term").unwrap().unwrap(), [9]);
    assert!(database.bucket("lease").unwrap().is_none());
    let mut keys = Vec::new();
    let key = database.bucket("key").unwrap().unwrap();
    database.each(&key, &mut |key, _| keys.push(key.to_vec())).unwrap();
    assert_eq!(keys, [b"a", b"b", b"c"]);
    assert_eq!(read_all(example()).unwrap(), 7);
}

#[test]
fn one_damaged_meta_page_is_survived_and_two_are_not() {
    for (damaged, is_readable) in [(&[20][..], true), (&[4096 + 20], true), (&[20, 4116], false)] {
        let mut bytes = example();
        for at in damaged {
            bytes[*at] ^= 1;
        }
        assert_eq!(read_all(bytes).is_ok(), is_readable, "{damaged:?}");
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error_or_still_whole_never_a_panic() {
    let whole = example();
    let mut refused = 0;
    for length in (0..whole.len()).step_by(61) {
        refused += usize::from(read_all(whole[..length].to_vec()).is_err());
    }
    // The last page is half empty, but a page that is not whole is refused all the same.
    assert_eq!(refused, whole.len().div_ceil(61));
}

#[test]
fn damage_anywhere_is_an_error_or_harmless_never_a_panic() {
    let whole = example();
    let mut random = Rng::with_seed(7);
    let mut refused = 0;
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..=random.usize(..3) {
            // Beyond the meta pages, whose hash would end most runs at once.
            let page = 3 + random.usize(..3);
            let at = page * 4096 + random.usize(..200);
            bytes[at] = [0, 1, 2, 0x10, 0x7f, 0x80, 0xff][random.usize(..7)];
        }
        refused += u32::from(read_all(bytes).is_err());
    }
    assert!(refused > 1000, "only {refused} of 20000 damaged files were refused");
}

#[test]
fn arbitrary_bytes_are_refused() {
    let mut random = Rng::with_seed(11);
    for _ in 0..500 {
        let length = random.usize(..20_000);
        let bytes = (0..length).map(|_| random.u8(..)).collect();
        assert!(read_all(bytes).is_err());
    }
}

#[test]
fn a_page_that_points_at_itself_ends() {
    let mut bytes = example();
    let root = 3 * 4096;
    // The root becomes a branch whose three children are the root.
    bytes[root + 8..root + 10].copy_from_slice(&1u16.to_ne_bytes());
    for index in 0..3 {
        let child = root + 16 + index * 16 + 8;
        bytes[child..child + 8].copy_from_slice(&3u64.to_ne_bytes());
    }
    assert!(matches!(read_all(bytes), Err(Error::Damaged(_))));
}

#[test]
fn an_overflow_beyond_the_file_reserves_no_memory() {
    let mut bytes = example();
    bytes[3 * 4096 + 12..3 * 4096 + 16].copy_from_slice(&u32::MAX.to_ne_bytes());
    assert!(matches!(read_all(bytes), Err(Error::Damaged("a page is longer than the file"))));
}
