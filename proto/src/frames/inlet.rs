//! [`Inlet`]: frames from a connection.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::buffers;
use super::frame::{Frame, FrameError, parse};

/// Bytes of a connection's buffer, at least. What many small frames share is kept as long as one of
/// them is.
const BUFFER_BYTES: usize = 128 << 10;
/// With less room than that the next read goes into another buffer.
const ROOM_BYTES_LEAST: usize = 8 << 10;

/// Why no further frame comes.
#[derive(Debug, thiserror::Error)]
pub enum InletError {
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] std::io::Error),
    /// It ended inside a frame.
    #[error("the connection ended inside a frame")]
    Cut,
    /// What came is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// The reading side of a connection. Payloads are slices of its buffers: none is copied.
#[derive(Debug)]
pub struct Inlet<R> {
    io: R,
    buffer: BytesMut,
    /// As large as the last frame that was larger than the buffer: the next may be too.
    expected_bytes: usize,
}

impl<R: AsyncRead + Unpin + Send> Inlet<R> {
    /// Frames from `io`, whose hello has been read.
    #[must_use]
    pub fn new(io: R) -> Self {
        Self { io, buffer: BytesMut::new(), expected_bytes: 0 }
    }

    /// The next frame; `None` at the end. Nothing is lost when it is dropped before it is done.
    ///
    /// # Errors
    /// [`InletError`]; the connection is of no use after it.
    pub async fn next(&mut self) -> Result<Option<Frame>, InletError> {
        loop {
            match parse(&mut self.buffer)? {
                Ok(frame) => {
                    let bytes = frame.body.len();
                    buffers::keep(&frame.body);
                    self.expected_bytes = if bytes > BUFFER_BYTES { bytes + ROOM_BYTES_LEAST } else { 0 };
                    return Ok(Some(frame));
                }
                Err(needed) => self.make_room(needed),
            }
            if self.io.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(InletError::Cut) };
            }
        }
    }

    fn make_room(&mut self, needed: usize) {
        let missing = needed.saturating_sub(self.buffer.len());
        let room = self.buffer.capacity() - self.buffer.len();
        if room < missing.max(ROOM_BYTES_LEAST) {
            let more = missing.max(BUFFER_BYTES).max(self.expected_bytes);
            if more < buffers::LARGE_BYTES {
                return self.buffer.reserve(more);
            }
            let mut next = buffers::take(self.buffer.len() + more);
            next.extend_from_slice(&self.buffer);
            self.buffer = next;
        }
    }
}
