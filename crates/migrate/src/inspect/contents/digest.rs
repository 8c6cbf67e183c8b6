//! A digest of records in their order. It finds differences that happen, not those that somebody
//! makes on purpose: it is not cryptographic.
//!
//! It is kept in the journal, so it is the same on every machine and in every release.

use std::fmt;
use std::str::FromStr;

/// Digits of pi: where the two halves begin, and what they are mixed with.
const STARTS: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];
const KEYS: [u64; 2] = [0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89];

/// Two halves of 64 bits that do not depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentDigest([u64; 2]);

impl Default for ContentDigest {
    fn default() -> Self {
        Self(STARTS)
    }
}

impl ContentDigest {
    /// Adds bytes, and their number: what is added first does not run into what is added next.
    pub fn add(&mut self, bytes: &[u8]) {
        self.add_number(bytes.len() as u64);
        let (pairs, rest) = bytes.as_chunks::<16>();
        for pair in pairs {
            self.add_pair(u128::from_le_bytes(*pair));
        }
        if !rest.is_empty() {
            let mut pair = [0; 16];
            pair[..rest.len()].copy_from_slice(rest);
            self.add_pair(u128::from_le_bytes(pair));
        }
    }

    /// Adds a number.
    pub fn add_number(&mut self, number: u64) {
        self.add_pair(u128::from(number));
    }

    /// Each half multiplies both words and keeps both ends of the product, as wyhash does. It then
    /// adds what it was, without which a factor of 0 would make it forget all before.
    #[inline]
    fn add_pair(&mut self, pair: u128) {
        let (low, high) = (low(pair), low(pair >> 64));
        let [first, second] = self.0;
        let product = multiply(low ^ KEYS[0], high ^ first);
        self.0[0] = product.wrapping_add(first.rotate_left(23));
        let product = multiply(high ^ KEYS[1], low ^ second);
        self.0[1] = product.wrapping_add(second.rotate_left(29));
    }
}

#[inline]
fn multiply(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    low(product) ^ low(product >> 64)
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
fn low(number: u128) -> u64 {
    number as u64
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.0[0], self.0[1])
    }
}

impl FromStr for ContentDigest {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let half = |from, to| u64::from_str_radix(text.get(from..to).unwrap_or("?"), 16);
        match (half(0, 16), half(16, 32)) {
            (Ok(first), Ok(second)) if text.len() == 32 => Ok(Self([first, second])),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn digest(parts: &[&[u8]]) -> ContentDigest {
        let mut digest = ContentDigest::default();
        for part in parts {
            digest.add(part);
        }
        digest
    }

    #[test]
    fn a_digest_is_the_same_in_every_release_and_on_every_machine() {
        let text = "0123456789abcdef0123456789abcdef";
        assert_eq!(text.parse::<ContentDigest>().unwrap().to_string(), text);
        assert_eq!(digest(&[]).to_string(), "243f6a8885a308d313198a2e03707344");
        assert_eq!(
            digest(&[b"/registry/a", b"value"]).to_string(),
            "75fd2e9b3fcd011b60e56d17072dd42a"
        );
        for text in ["", "0123456789abcdef", "0123456789abcdef0123456789abcdeg", "é"] {
            assert!(text.parse::<ContentDigest>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_byte_its_place_and_every_border_count() {
        let mut seen = HashSet::new();
        let mut differs =
            |parts: &[&[u8]]| assert!(seen.insert(digest(parts).to_string()), "{parts:?}");
        differs(&[]);
        differs(&[b""]);
        differs(&[b"", b""]);
        differs(&[b"ab", b"c"]);
        differs(&[b"a", b"bc"]);
        differs(&[b"c", b"ab"]);
        differs(&[b"abc"]);
        differs(&[b"abc\0"]);
        for at in 0..40 {
            for bit in 0..8 {
                let mut bytes = [0x55; 40];
                bytes[at] ^= 1 << bit;
                differs(&[&bytes]);
            }
        }
        let halves: HashSet<_> = seen.iter().flat_map(|text| [&text[..16], &text[16..]]).collect();
        assert_eq!(halves.len(), 2 * seen.len());
    }
}
