//! CRC-32C, as RocksDB protects its log with; eight bytes at a time.

const POLY: u32 = 0x82f6_3b78;

const TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0u32; 256]; 8];
    let mut n = 0;
    while n < 256 {
        let mut crc = n as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ POLY
            } else {
                crc >> 1
            };
            bit += 1;
        }
        tables[0][n] = crc;
        n += 1;
    }
    let mut n = 0;
    while n < 256 {
        let mut t = 1;
        while t < 8 {
            let before = tables[t - 1][n];
            tables[t][n] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            t += 1;
        }
        n += 1;
    }
    tables
}

/// The checksum of several slices, one after another.
#[allow(clippy::indexing_slicing)] // Cannot fail: a byte is below 256, and there are 8 tables.
pub(crate) fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut crc = !0u32;
    for part in parts {
        let (chunks, rest) = part.as_chunks::<8>();
        for chunk in chunks {
            let word = u64::from_le_bytes(*chunk) ^ u64::from(crc);
            crc = 0;
            let mut t = 0;
            while t < 8 {
                crc ^= TABLES[7 - t][(word >> (8 * t)) as usize & 0xff];
                t += 1;
            }
        }
        for byte in rest {
            crc = (crc >> 8) ^ TABLES[0][((crc ^ u32::from(*byte)) & 0xff) as usize];
        }
    }
    !crc
}

/// The form in which RocksDB stores a checksum.
pub(crate) const fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_published_vectors() {
        assert_eq!(super::crc32c(&[&[0; 32]]), 0x8a91_36aa);
        assert_eq!(super::crc32c(&[&[0xff; 32]]), 0x62a8_ab43);
        assert_eq!(super::crc32c(&[b"1234", b"56789"]), 0xe306_9283);
        assert_eq!(super::crc32c(&[b"123456789"]), 0xe306_9283);
    }
}
