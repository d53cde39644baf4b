//! Masking (RFC 6455 section 5.3).

/// Masks or unmasks in place. The key belongs to the first byte; [`after`] gives the one of a later byte.
#[inline]
pub(super) fn apply(bytes: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    // As wide as a vector register: the compiler makes one instruction of the inner loop.
    let wide = [a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d];
    let mut chunks = bytes.chunks_exact_mut(wide.len());
    for chunk in &mut chunks {
        xor(chunk, &wide);
    }
    xor(chunks.into_remainder(), &wide);
}

#[inline]
fn xor(bytes: &mut [u8], key: &[u8; 16]) {
    for (byte, key) in bytes.iter_mut().zip(key) {
        *byte ^= key;
    }
}

/// The key as it applies `bytes` further on.
#[inline]
pub(super) fn after(mut key: [u8; 4], bytes: usize) -> [u8; 4] {
    key.rotate_left(bytes & 3);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_meets_its_part_of_the_key() {
        let key = [0x12, 0x34, 0x56, 0x78];
        let plain: Vec<u8> = (0..100u8).collect();
        for length in 0..plain.len() {
            for start in 0..length.min(9) {
                let mut bytes = plain[..length].to_vec();
                apply(&mut bytes[..start], key);
                apply(&mut bytes[start..], after(key, start));
                let slow: Vec<u8> = (0..length).map(|index| plain[index] ^ key[index % 4]).collect();
                assert_eq!(bytes, slow, "{length} bytes cut at {start}");
            }
        }
    }
}
