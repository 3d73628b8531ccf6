//! [`Frame`]: what travels on a framed connection. Numbers are little-endian.
//!
//! ```text
//!  0  u32  bytes of the head: a protobuf message without its payload
//!  4  u32  bytes of the body: the payload
//!  8  u8   kind
//!  9  u8   flags: 1 the frame opens its stream; the others are 0
//! 10  u16  0
//! 12  u32  stream
//! 16  u32  CRC32C of the head
//! 20  u32  CRC32C of bytes 0 to 19
//! 24       head, then body
//! ```
//!
//! The body has no checksum of its own: the message says the CRC32C of its payload, which was made
//! where the bytes came from, and which whoever takes them in checks.

use bytes::{Buf, Bytes, BytesMut};
use cairn_types::limits::{APPEND_BYTES_MAX, READ_FRAME_BYTES_MAX};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 24;
/// Bytes of a head, at most. The largest is a creation that names all writers of a file.
pub const HEAD_BYTES_MAX: usize = 256 << 10;
/// Bytes of a body, at most: those of the largest append, and of a frame of a read, and some more, so that an
/// append that is a little too large is refused by itself and not with its connection.
pub const BODY_BYTES_MAX: usize = BODY_ROOM_BYTES
    + if APPEND_BYTES_MAX > READ_FRAME_BYTES_MAX { APPEND_BYTES_MAX } else { READ_FRAME_BYTES_MAX };
const BODY_ROOM_BYTES: usize = 4096;

const OPENS: u8 = 1;

/// What a frame holds. A kind is never given another meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// `AppendRequest`, to a primary.
    Append = 1,
    /// `AppendReply`.
    Appended = 2,
    /// `ReplicateRequest`, to a secondary.
    Replicate = 3,
    /// `ReplicateReply`.
    Replicated = 4,
    /// `ReadRequest`.
    Read = 5,
    /// `ReadFrame`.
    Block = 6,
    /// `TailLengthRequest`.
    TailLength = 7,
    /// `TailLengthReply`.
    Tail = 8,
    /// `ErrorDetail`: the call failed, and its stream is over.
    Refused = 9,
    /// This side says nothing more on the stream.
    End = 10,
    /// The caller wants nothing more of the stream.
    Cancel = 11,
    /// Are you there? Of no stream.
    Ping = 12,
    /// Yes.
    Pong = 13,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 13] = [
        Kind::Append,
        Kind::Appended,
        Kind::Replicate,
        Kind::Replicated,
        Kind::Read,
        Kind::Block,
        Kind::TailLength,
        Kind::Tail,
        Kind::Refused,
        Kind::End,
        Kind::Cancel,
        Kind::Ping,
        Kind::Pong,
    ];

    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it holds.
    pub kind: Kind,
    /// It is the first of its stream.
    pub opens: bool,
    /// The stream: a number that the caller chose, used once on its connection.
    pub stream: u32,
    /// The message, without its payload.
    pub head: Bytes,
    /// The payload.
    pub body: Bytes,
}

/// Why bytes are no frame. The connection is of no use after any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The header is not what was sent.
    #[error("a frame's header does not match its checksum")]
    HeaderChecksum,
    /// The head is not what was sent.
    #[error("a frame's head does not match its checksum")]
    HeadChecksum,
    /// A kind that this build does not know, or that does not belong there.
    #[error("a frame of kind {0} does not belong there")]
    Kind(u8),
    /// Flags that this build does not know.
    #[error("a frame has the unknown flags {0:#x}")]
    Flags(u16),
    /// The head is too long.
    #[error("a frame's head of {0} bytes is too long")]
    HeadBytes(u32),
    /// The body is too long.
    #[error("a frame's body of {0} bytes is too long")]
    BodyBytes(u32),
    /// The head is no such message.
    #[error("a frame's head is not its message")]
    Message,
    /// A body where the message has no payload.
    #[error("a frame has a body that its message has no place for")]
    Body,
}

/// A header's fields, checked.
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) opens: bool,
    pub(super) stream: u32,
    pub(super) head_bytes: usize,
    pub(super) body_bytes: usize,
    head_crc32c: u32,
}

impl Header {
    fn read(bytes: &[u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let mut rest = bytes.as_slice();
        let (head_bytes, body_bytes) = (rest.get_u32_le(), rest.get_u32_le());
        let (kind, flags, zero) = (rest.get_u8(), rest.get_u8(), rest.get_u16_le());
        let (stream, head_crc32c, crc32c) = (rest.get_u32_le(), rest.get_u32_le(), rest.get_u32_le());
        let (checked, _) = bytes.split_at(HEADER_BYTES - 4);
        if crc32c::crc32c(checked) != crc32c {
            return Err(FrameError::HeaderChecksum);
        }
        if head_bytes as usize > HEAD_BYTES_MAX {
            return Err(FrameError::HeadBytes(head_bytes));
        }
        if body_bytes as usize > BODY_BYTES_MAX {
            return Err(FrameError::BodyBytes(body_bytes));
        }
        if flags & !OPENS != 0 || zero != 0 {
            return Err(FrameError::Flags(u16::from(flags) | zero));
        }
        Ok(Self {
            kind: Kind::of(kind).ok_or(FrameError::Kind(kind))?,
            opens: flags & OPENS != 0,
            stream,
            head_bytes: head_bytes as usize,
            body_bytes: body_bytes as usize,
            head_crc32c,
        })
    }

    fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.head_bytes + self.body_bytes
    }
}

/// The header for a head that is there and a body that follows it.
pub(super) fn header(
    kind: Kind,
    opens: bool,
    stream: u32,
    head: &[u8],
    body_bytes: usize,
) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    let flags = if opens { OPENS } else { 0 };
    let words = [
        (head.len() as u32).to_le_bytes(),
        (body_bytes as u32).to_le_bytes(),
        [kind as u8, flags, 0, 0],
        stream.to_le_bytes(),
        crc32c::crc32c(head).to_le_bytes(),
    ];
    let (checked, crc32c) = out.split_at_mut(HEADER_BYTES - 4);
    checked.copy_from_slice(words.as_flattened());
    crc32c.copy_from_slice(&crc32c::crc32c(checked).to_le_bytes());
    out
}

/// Takes the next frame off the front of `buffer`, without copying it. `Err(needed)` inside: it is not
/// whole yet, and takes so many bytes in all as far as is known.
///
/// # Errors
/// [`FrameError`]: the header is looked at as soon as it is there, before its frame is waited for.
pub fn parse(buffer: &mut BytesMut) -> Result<Result<Frame, usize>, FrameError> {
    let Some(bytes) = buffer.first_chunk::<HEADER_BYTES>() else { return Ok(Err(HEADER_BYTES)) };
    let header = Header::read(bytes)?;
    if buffer.len() < header.frame_bytes() {
        return Ok(Err(header.frame_bytes()));
    }
    buffer.advance(HEADER_BYTES);
    let head = buffer.split_to(header.head_bytes).freeze();
    let body = buffer.split_to(header.body_bytes).freeze();
    if crc32c::crc32c(&head) != header.head_crc32c {
        return Err(FrameError::HeadChecksum);
    }
    Ok(Ok(Frame { kind: header.kind, opens: header.opens, stream: header.stream, head, body }))
}
