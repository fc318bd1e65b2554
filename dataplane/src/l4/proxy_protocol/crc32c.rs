//! The checksum of version 2 headers (CRC-32C, RFC 3720 appendix B.4).

/// The polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;
const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ POLYNOMIAL
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
}

/// The checksum of pieces one after another.
pub(super) fn of<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> u32 {
    let bytes = pieces.into_iter().flatten();
    !bytes.fold(!0, |crc: u32, byte| {
        let [low, ..] = crc.to_le_bytes();
        let entry = TABLE.get(usize::from(low ^ byte)).copied().unwrap_or_default();
        crc >> 8 ^ entry
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn known_checksums() {
        // RFC 3720, appendix B.4, and the check value of the CRC catalogues.
        for (bytes, crc) in [
            (&[0u8; 32][..], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (b"123456789", 0xe306_9283),
            (b"", 0),
        ] {
            assert_eq!(super::of([bytes]), crc);
            let (first, second) = bytes.split_at(bytes.len() / 2);
            assert_eq!(super::of([first, second]), crc);
        }
    }
}
