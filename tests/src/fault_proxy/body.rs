//! Bodies on their way: passed on, cut short, or with a wrong byte.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// What happens to a body's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Harm {
    None,
    /// Fails after so many bytes.
    Truncate(u64),
    /// Changes the byte at this place.
    Corrupt(u64),
}

/// The connection is cut here on purpose.
#[derive(Debug, thiserror::Error)]
#[error("cut by the fault proxy")]
pub(super) struct CutHere;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body that is streamed through, or made up by the proxy.
#[derive(Debug)]
pub(super) enum ProxyBody {
    Streamed(Harmed),
    Made(Full<Bytes>),
}

impl ProxyBody {
    pub(super) fn streamed(body: Incoming, harm: Harm) -> Self {
        Self::Streamed(Harmed { body, harm, seen: 0, is_flushed: false })
    }

    pub(super) fn made(text: impl Into<Bytes>) -> Self {
        Self::Made(Full::new(text.into()))
    }
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Streamed(body) => body.poll_frame(context),
            Self::Made(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            // A body that is to be cut must be asked until it fails.
            Self::Streamed(body) => !matches!(body.harm, Harm::Truncate(_)) && body.body.is_end_stream(),
            Self::Made(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            // The promised length stays, whatever is delivered.
            Self::Streamed(body) => body.body.size_hint(),
            Self::Made(body) => body.size_hint(),
        }
    }
}

/// A streamed body and what is to happen to it.
#[derive(Debug)]
pub(super) struct Harmed {
    body: Incoming,
    harm: Harm,
    /// Bytes that passed.
    seen: u64,
    is_flushed: bool,
}

impl Harmed {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.harm == Harm::Truncate(self.seen) {
            return self.poll_cut(context);
        }
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let frame = match polled {
            Poll::Ready(Some(Ok(frame))) => frame,
            // The body was shorter than the place of the cut: cut at its end.
            Poll::Ready(None) if matches!(self.harm, Harm::Truncate(_)) => {
                self.harm = Harm::Truncate(self.seen);
                return self.poll_cut(context);
            }
            other => return other.map(|ended| ended.map(|frame| frame.map_err(Into::into))),
        };
        let frame = match frame.into_data() {
            Ok(data) => Frame::data(self.harm_data(data)),
            Err(trailers) => trailers,
        };
        Poll::Ready(Some(Ok(frame)))
    }

    /// Fails, but not before what was delivered so far is on the wire: hyper flushes when a body has
    /// nothing to give, and drops what it holds when a body fails.
    fn poll_cut(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.is_flushed {
            return Poll::Ready(Some(Err(CutHere.into())));
        }
        self.is_flushed = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn harm_data(&mut self, data: Bytes) -> Bytes {
        let length = data.len() as u64;
        let start = self.seen;
        let harmed = match self.harm {
            Harm::Truncate(after) if start + length > after => data.slice(..(after - start) as usize),
            Harm::Corrupt(at) if (start..start + length).contains(&at) => {
                let mut changed = BytesMut::from(&data[..]);
                changed[(at - start) as usize] ^= 0x01;
                changed.freeze()
            }
            _ => data,
        };
        self.seen += harmed.len() as u64;
        harmed
    }
}
