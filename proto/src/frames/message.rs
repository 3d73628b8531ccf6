//! [`Framed`]: the messages that travel in frames, with their payload beside them.

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::frame::{Frame, FrameError, HEADER_BYTES, Kind, header};
use crate::v1;

/// A message of a framed call.
pub trait Framed: Message + Default {
    /// Its kind of frame.
    const KIND: Kind;

    /// Takes the payload out of it.
    fn take_body(&mut self) -> Bytes {
        Bytes::new()
    }

    /// Puts a payload into it.
    ///
    /// # Errors
    /// [`FrameError::Body`] when it has no place for one.
    fn put_body(&mut self, body: Bytes) -> Result<(), FrameError> {
        if body.is_empty() { Ok(()) } else { Err(FrameError::Body) }
    }
}

impl Framed for v1::AppendRequest {
    const KIND: Kind = Kind::Append;

    fn take_body(&mut self) -> Bytes {
        std::mem::take(&mut self.data)
    }

    fn put_body(&mut self, body: Bytes) -> Result<(), FrameError> {
        self.data = body;
        Ok(())
    }
}

impl Framed for v1::AppendReply {
    const KIND: Kind = Kind::Appended;
}

impl Framed for v1::ReplicateRequest {
    const KIND: Kind = Kind::Replicate;

    fn take_body(&mut self) -> Bytes {
        match &mut self.message {
            Some(v1::replicate_request::Message::Record(record)) => std::mem::take(&mut record.payload),
            _ => Bytes::new(),
        }
    }

    fn put_body(&mut self, body: Bytes) -> Result<(), FrameError> {
        match &mut self.message {
            Some(v1::replicate_request::Message::Record(record)) => record.payload = body,
            _ if body.is_empty() => {}
            _ => return Err(FrameError::Body),
        }
        Ok(())
    }
}

impl Framed for v1::ReplicateReply {
    const KIND: Kind = Kind::Replicated;
}

impl Framed for v1::ReadRequest {
    const KIND: Kind = Kind::Read;
}

impl Framed for v1::ReadFrame {
    const KIND: Kind = Kind::Block;

    fn take_body(&mut self) -> Bytes {
        std::mem::take(&mut self.data)
    }

    fn put_body(&mut self, body: Bytes) -> Result<(), FrameError> {
        self.data = body;
        Ok(())
    }
}

impl Framed for v1::TailLengthRequest {
    const KIND: Kind = Kind::TailLength;
}

impl Framed for v1::TailLengthReply {
    const KIND: Kind = Kind::Tail;
}

impl Framed for v1::ErrorDetail {
    const KIND: Kind = Kind::Refused;
}

/// A frame's header and head in one run of bytes, and its body as it is.
pub(super) fn split<M: Framed>(stream: u32, opens: bool, mut message: M) -> (Bytes, Bytes) {
    let body = message.take_body();
    let mut out = BytesMut::with_capacity(HEADER_BYTES + message.encoded_len());
    out.extend_from_slice(&[0; HEADER_BYTES]);
    // It fails only for want of room, and there is as much as it takes.
    let _ = message.encode(&mut out);
    let (front, head) = out.split_at_mut(HEADER_BYTES);
    front.copy_from_slice(&header(M::KIND, opens, stream, head, body.len()));
    (out.freeze(), body)
}

/// The header of a frame that holds nothing.
pub(super) fn bare(kind: Kind, stream: u32) -> Bytes {
    Bytes::copy_from_slice(&header(kind, false, stream, &[], 0))
}

impl Frame {
    /// The message of this frame, its payload inside.
    ///
    /// # Errors
    /// [`FrameError`] when it is of another kind, or is none.
    pub fn message<M: Framed>(self) -> Result<M, FrameError> {
        if self.kind != M::KIND {
            return Err(FrameError::Kind(self.kind as u8));
        }
        let mut message = M::decode(self.head).map_err(|_| FrameError::Message)?;
        message.put_body(self.body)?;
        Ok(message)
    }
}
