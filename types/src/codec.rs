//! The one codec of stored and replicated records: a format byte, then bincode 2 (standard
//! configuration: little-endian, variable-length integers), as docs/FORMAT.md describes.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{Decode, Encode};

const CONFIG: Configuration<LittleEndian, Varint, Limit<RECORD_BYTES_MAX>> =
    bincode::config::standard().with_limit::<RECORD_BYTES_MAX>();

/// Bytes that one decoded record may claim, at most: a corrupt length cannot ask for more.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// A record of fewer bytes is encoded without growing a buffer.
const SMALL_BYTES: usize = 512;

/// Why bytes are not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// There are no bytes at all.
    #[error("the record is empty")]
    Empty,
    /// The format byte is not one that this build reads.
    #[error(
        "format version {found} is not readable by this build (it reads {known}); a newer CairnFS wrote it"
    )]
    Format {
        /// The byte found.
        found: u8,
        /// The byte this build writes.
        known: u8,
    },
    /// The bytes after the format byte are damaged.
    #[error("the record's bytes are damaged")]
    Damaged,
    /// Bytes are left over after the record.
    #[error("{count} bytes are left over after the record")]
    Trailing {
        /// How many.
        count: usize,
    },
}

/// Encodes `value` behind the format byte `format`.
#[must_use]
pub fn encode<T: Encode>(format: u8, value: &T) -> Vec<u8> {
    // Most records are small: they are encoded here, and copied once to a Vec of their own size.
    let mut small = [0; SMALL_BYTES];
    small[0] = format;
    if let Ok(used) = bincode::encode_into_slice(value, &mut small[1..], CONFIG) {
        return small[..=used].to_vec();
    }
    let mut out = Vec::with_capacity(2 * SMALL_BYTES);
    out.push(format);
    // Writing into a Vec cannot fail, and no record type has a failing Encode.
    if let Err(error) = bincode::encode_into_std_write(value, &mut out, CONFIG) {
        panic!("a record did not encode: {error}");
    }
    out
}

/// Decodes what [`encode`] wrote.
///
/// # Errors
/// [`CodecError`] for bytes that are empty, of another format, damaged, or too many.
pub fn decode<T: Decode<()>>(format: u8, bytes: &[u8]) -> Result<T, CodecError> {
    let (found, body) = bytes.split_first().ok_or(CodecError::Empty)?;
    if *found != format {
        return Err(CodecError::Format { found: *found, known: format });
    }
    let (value, used) = bincode::decode_from_slice(body, CONFIG).map_err(|_| CodecError::Damaged)?;
    if used != body.len() {
        return Err(CodecError::Trailing { count: body.len() - used });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_record_is_refused() {
        let bytes = encode(3, &(7u64, "x".to_owned()));
        assert_eq!(decode::<(u64, String)>(3, &bytes), Ok((7, "x".to_owned())));
        assert_eq!(decode::<(u64, String)>(3, &[]), Err(CodecError::Empty));
        assert_eq!(decode::<(u64, String)>(4, &bytes), Err(CodecError::Format { found: 3, known: 4 }));
        assert_eq!(decode::<(u64, String)>(3, &bytes[..2]), Err(CodecError::Damaged));
        let longer = [bytes, vec![0]].concat();
        assert_eq!(decode::<(u64, String)>(3, &longer), Err(CodecError::Trailing { count: 1 }));
    }

    #[test]
    fn records_of_every_length_come_back() {
        for length in (0..4 * SMALL_BYTES).step_by(13).chain(SMALL_BYTES - 8..SMALL_BYTES + 8) {
            let value = vec![7u8; length];
            let bytes = encode(9, &value);
            assert!(bytes[0] == 9 && bytes.len() > length, "{length}");
            assert_eq!(decode::<Vec<u8>>(9, &bytes), Ok(value));
        }
    }

    #[test]
    fn a_corrupt_length_does_not_allocate() {
        let huge = [vec![1u8, 253], u64::MAX.to_le_bytes().to_vec()].concat();
        assert_eq!(decode::<Vec<u8>>(1, &huge), Err(CodecError::Damaged));
    }
}
