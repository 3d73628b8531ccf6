//! [`Name`]: one component of a path.

use std::fmt;

use bincode::{Decode, Encode};

use crate::FsError;
use crate::limits::NAME_BYTES_MAX;

/// A directory entry's name: 1–255 bytes, no `/`, no NUL, not `.` and not `..`.
///
/// Names are bytes, not text; they order by byte value, which is the order of listings.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
pub struct Name(Vec<u8>);

impl Name {
    /// Checks `bytes` and takes them as a name.
    ///
    /// # Errors
    /// [`FsError::NameTooLong`] above 255 bytes, [`FsError::InvalidName`] for what no name may be.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, FsError> {
        let bytes = bytes.into();
        if bytes.len() > NAME_BYTES_MAX {
            return Err(FsError::NameTooLong);
        }
        let reserved = bytes.is_empty() || bytes == b"." || bytes == b"..";
        if reserved || bytes.iter().any(|b| *b == b'/' || *b == 0) {
            return Err(FsError::InvalidName);
        }
        Ok(Self(bytes))
    }

    /// The name's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name's bytes, owned.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl AsRef<[u8]> for Name {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

// What is decoded is checked again: bytes on a disk or from a peer are not trusted.
impl<C> Decode<C> for Name {
    fn decode<D: bincode::de::Decoder<Context = C>>(
        decoder: &mut D,
    ) -> Result<Self, bincode::error::DecodeError> {
        let bytes = Vec::<u8>::decode(decoder)?;
        Self::new(bytes).map_err(|_| bincode::error::DecodeError::Other("not a valid name"))
    }
}

impl<'de, C> bincode::BorrowDecode<'de, C> for Name {
    fn borrow_decode<D: bincode::de::BorrowDecoder<'de, Context = C>>(
        decoder: &mut D,
    ) -> Result<Self, bincode::error::DecodeError> {
        Self::decode(decoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_name_may_be_is_refused() {
        for bad in ["", ".", "..", "a/b", "a\0b"] {
            assert_eq!(Name::new(bad), Err(FsError::InvalidName), "{bad:?}");
        }
        assert_eq!(Name::new(vec![b'x'; 256]), Err(FsError::NameTooLong));
        assert!(Name::new(vec![0xff; 255]).is_ok());
        assert!(Name::new("...").is_ok());
    }
}
