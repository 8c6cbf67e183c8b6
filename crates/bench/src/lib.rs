//! Input for benchmarks: bytes that compress like programs, without a file of this machine.

/// Bytes that gzip shrinks to about a third, as it does etcd's programs: the same ones every time.
pub fn program_like(n_bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(n_bytes + 64);
    while bytes.len() < n_bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let [a, b, c, d, ..] = state.to_le_bytes();
        // An "instruction" from a small set, an operand, and sometimes an earlier passage again.
        bytes.extend([a & 0x3f, 0x48, b & 0x0f, c]);
        if d < 24 && bytes.len() > 4096 {
            let start = bytes.len() - 4096 + usize::from(b);
            let length = 16 + usize::from(c & 0x1f);
            bytes.extend_from_within(start..start + length);
        }
    }
    bytes.truncate(n_bytes);
    bytes
}
