//! What the store writes: batches of changes, each in a frame that says whether it is whole.
//!
//! A frame is a header of 20 bytes and a body, all little-endian:
//!
//! ```text
//! body length u32 | batch number u64 | CRC32C of the body u32 | CRC32C of the 16 bytes before u32 | body
//! ```
//!
//! The body is changes: 1 | key length u16 | key | value length u32 | value, or 2 | key length u16 | key.

/// Bytes before a body.
pub const HEADER_BYTES: usize = 20;

const PUT: u8 = 1;
const DELETE: u8 = 2;

/// One change of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key has this value from here on.
    Put {
        /// Up to 65,535 bytes.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
    /// The key is gone.
    Delete {
        /// The key.
        key: Vec<u8>,
    },
}

impl Change {
    /// Bytes in a body.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value } => 7 + key.len() + value.len(),
            Self::Delete { key } => 3 + key.len(),
        }
    }
}

/// Changes that are made together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Counts the batches of a store.
    pub number: u64,
    /// In their order.
    pub changes: Vec<Change>,
}

/// Something that no crash leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where its frame begins.
    pub at: usize,
}

/// The frames of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Frames {
    /// The whole ones, in their order.
    pub batches: Vec<Batch>,
    /// Bytes at the end that are the beginning of a frame.
    pub torn: usize,
}

/// A batch in its frame. Keys have 65,535 bytes at most, all of it less than 4 GiB.
pub fn encode(batch: &Batch) -> Vec<u8> {
    let mut frame = vec![0; HEADER_BYTES];
    for change in &batch.changes {
        let (tag, key) = match change {
            Change::Put { key, .. } => (PUT, key),
            Change::Delete { key } => (DELETE, key),
        };
        frame.push(tag);
        frame.extend_from_slice(&(key.len() as u16).to_le_bytes());
        frame.extend_from_slice(key);
        if let Change::Put { value, .. } = change {
            frame.extend_from_slice(&(value.len() as u32).to_le_bytes());
            frame.extend_from_slice(value);
        }
    }
    let (header, body) = frame.split_at_mut(HEADER_BYTES);
    header[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    header[4..12].copy_from_slice(&batch.number.to_le_bytes());
    header[12..16].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    let checksum = crc32c::crc32c(&header[..16]);
    header[16..].copy_from_slice(&checksum.to_le_bytes());
    frame
}

/// Takes a file apart. The beginning of a frame at its end is what a torn write leaves, and is told; a frame
/// that is wrong in any other way is damage.
pub fn decode(bytes: &[u8]) -> Result<Frames, Damage> {
    let mut batches = Vec::new();
    let mut rest = bytes;
    while let Some((header, after)) = rest.split_first_chunk::<HEADER_BYTES>() {
        let damage = Damage { at: bytes.len() - rest.len() };
        let mut header = Fields(header);
        let checked = crc32c::crc32c(&header.0[..16]);
        let (length, number) = (header.u32(), header.u64());
        let (body_checksum, header_checksum) = (header.u32(), header.u32());
        if header_checksum != Some(checked) {
            return Err(damage);
        }
        let (Some(length), Some(number)) = (length, number) else { return Err(damage) };
        // The header is whole: a body that goes beyond the end was cut.
        let Some((body, after)) = after.split_at_checked(length as usize) else { break };
        if body_checksum != Some(crc32c::crc32c(body)) {
            return Err(damage);
        }
        let changes = changes(body).ok_or(damage)?;
        batches.push(Batch { number, changes });
        rest = after;
    }
    Ok(Frames { batches, torn: rest.len() })
}

fn changes(body: &[u8]) -> Option<Vec<Change>> {
    let mut fields = Fields(body);
    let mut changes = Vec::new();
    while let Some(tag) = fields.take(1) {
        let length = fields.u16()?;
        let key = fields.take(length.into())?.to_vec();
        changes.push(match tag {
            [PUT] => {
                let length = fields.u32()?;
                Change::Put { key, value: fields.take(length as usize)?.to_vec() }
            }
            [DELETE] => Change::Delete { key },
            _ => return None,
        });
    }
    Some(changes)
}

/// Bytes that are taken from the front.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
}
