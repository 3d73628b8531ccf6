//! The framed protocol: the hot calls of `Data` (append, replicate, read, tail length) over a bare TCP
//! or unix connection. docs/WIRE.md has the bytes; gRPC stays the API through which everything can be done.
//!
//! ```text
//! hello.rs     what each side says first, and its check
//! frame.rs     a frame: a header of fixed size, a protobuf message, a payload outside of it
//! message.rs   which message is which kind of frame, and where its payload is
//! inlet.rs     frames from a connection            (these three do I/O)
//! outlet.rs    frames to a connection: one task writes what many say
//! caller.rs    the calling side of a connection: its streams
//! dial.rs      making a connection: TCP, or the unix socket of a node on the same machine
//! routes.rs    which way leads to which address: frames, or gRPC where there are none
//! ```

pub mod buffers;
mod caller;
mod dial;
mod frame;
mod hello;
mod inlet;
mod message;
mod outlet;
mod routes;

#[cfg(test)]
mod caller_tests;
#[cfg(test)]
mod codec_tests;

pub use caller::{Caller, Replies, Sending};
pub use frame::{BODY_BYTES_MAX, Frame, FrameError, HEAD_BYTES_MAX, HEADER_BYTES, Kind, parse};
pub use hello::{
    HELLO_BYTES, Hello, HelloError, MAGIC, Offer, PeerKind, Refusal, SOCKET_BYTES_MAX, WELCOME_BYTES, Welcome,
};
pub use inlet::{Inlet, InletError};
pub use message::Framed;
pub use outlet::{Outlet, Queue, encode, write};
pub use routes::{Lane, Route, Routes, Transport};
