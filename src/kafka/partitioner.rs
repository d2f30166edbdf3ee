//! Which partition a key's records are written to, by the hashes of the clients that are in use. A
//! record with an empty key, or none, may be anywhere.

use crate::config::Partitioner;

/// The partition of `key` in a topic with so many; `None` where the key does not decide it.
pub fn partition(partitioner: Partitioner, key: &[u8], partitions: usize) -> Option<i32> {
    let count = u32::try_from(partitions).ok().filter(|count| *count > 0)?;
    // librdkafka's `consistent_random` takes an empty key for none.
    if key.is_empty() {
        return None;
    }
    let hash = match partitioner {
        Partitioner::Murmur2 => murmur2(key) & 0x7fff_ffff,
        Partitioner::Crc32 => crc32(key),
    };
    i32::try_from(hash % count).ok()
}

/// MurmurHash2 with the seed that Kafka's Java client has (`Utils.murmur2`).
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let mut hash = SEED ^ length;
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(M);
        word ^= word >> 24;
        hash = hash.wrapping_mul(M) ^ word.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (byte, shift) in rest.iter().zip([0, 8, 16]) {
            hash ^= u32::from(*byte) << shift;
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// CRC-32 as in ISO 3309 and zlib. Keys are short: no table is worth it.
fn crc32(key: &[u8]) -> u32 {
    let byte = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    };
    !key.iter().fold(u32::MAX, byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of Kafka's own test (`UtilsTest.testMurmur2`).
    #[test]
    fn murmur2_is_that_of_java() {
        let cases: [(&str, i32); 7] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
            ("", 275_646_681),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key.as_bytes()), hash.cast_unsigned(), "{key}");
        }
    }

    #[test]
    fn crc32_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
        assert_eq!(partition(Partitioner::Crc32, b"123456789", 10), Some(2));
    }

    #[test]
    fn an_empty_key_or_no_partitions_give_no_partition() {
        assert_eq!(partition(Partitioner::Murmur2, b"", 3), None);
        assert_eq!(partition(Partitioner::Crc32, b"", 3), None);
        assert_eq!(partition(Partitioner::Murmur2, b"a", 0), None);
        assert_eq!(partition(Partitioner::Murmur2, b"a", 1), Some(0));
    }
}
