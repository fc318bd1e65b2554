//! How records are written: postcard, behind a checksum that also covers the place where the record belongs, so that one
//! that is read from the wrong place is as bad as one whose bits have changed.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Why bytes are no record.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum CodecError {
    #[error("{0} bytes, expected 4 of checksum at least")]
    Short(usize),
    #[error("checksum {found:08x}, expected {expected:08x}")]
    Checksum { found: u32, expected: u32 },
    #[error("the checksum is right and the content is not: {0}")]
    Content(postcard::Error),
}

/// The record for `place`.
pub(super) fn seal<T: Serialize>(place: &[u8], record: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![0; 4];
    bytes = postcard::to_extend(record, bytes).map_err(CodecError::Content)?;
    let checksum = checksum(place, bytes.get(4..).unwrap_or_default());
    if let Some(head) = bytes.get_mut(..4) {
        head.copy_from_slice(&checksum.to_le_bytes());
    }
    Ok(bytes)
}

/// The record that `seal` wrote for `place`.
pub(super) fn open<T: DeserializeOwned>(place: &[u8], bytes: &[u8]) -> Result<T, CodecError> {
    let Some((head, content)) = bytes.split_first_chunk::<4>() else {
        return Err(CodecError::Short(bytes.len()));
    };
    let (found, expected) = (checksum(place, content), u32::from_le_bytes(*head));
    if found != expected {
        return Err(CodecError::Checksum { found, expected });
    }
    postcard::from_bytes(content).map_err(CodecError::Content)
}

fn checksum(place: &[u8], content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(place);
    hasher.update(content);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::{CodecError, open, seal};

    #[test]
    fn a_record_is_read_where_it_was_written_and_as_it_was_written() {
        let bytes = seal(b"7", &"text".to_owned()).unwrap();
        assert_eq!(open::<String>(b"7", &bytes).unwrap(), "text");
        assert!(matches!(
            open::<String>(b"8", &bytes),
            Err(CodecError::Checksum { .. })
        ));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(open::<String>(b"7", &bad).is_err(), "byte {at}");
            assert!(open::<String>(b"7", &bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
