//! The framed transport of the hot calls (docs/WIRE.md): the same port as gRPC, and a unix socket in
//! the node's directory for callers on the same machine.
//!
//! ```text
//! doors.rs       who listens; which of the two a connection speaks
//! connection.rs  a connection: hello, frames in, frames out, its end
//! calls.rs       its calls, handed to the same handlers as those of gRPC
//! ```

mod calls;
mod connection;
mod doors;

pub use connection::Frames;
pub use doors::{SOCKET_NAME, open, socket};
