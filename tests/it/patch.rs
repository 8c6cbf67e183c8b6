//! Changes bytes of a file without changing its length.

/// Replaces a text by another of the same length, wherever it is. It must be somewhere.
#[track_caller]
pub fn patched(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let is_place = |at: &usize| bytes[*at..].starts_with(from.as_bytes());
    let places: Vec<_> = (0..bytes.len()).filter(is_place).collect();
    assert!(!places.is_empty(), "`{from}` is nowhere");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}
