//! What can go wrong.

use std::time::Duration;

/// What happens to one request. Bodies are counted as they are on the wire: an upload's may be
/// framed (`aws-chunked`), and then a wrong byte can hit the frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It waits that long before anything else is done with it; then the next rule is asked.
    Latency(Duration),
    /// Answered `503 SlowDown`, as S3 does under load. Never reaches the server.
    SlowDown,
    /// Answered `500 InternalError`. Never reaches the server.
    InternalError,
    /// Answered `403` with this code of S3, such as `RequestTimeTooSkewed`. Never reaches the server.
    Denied {
        /// The code.
        code: &'static str,
    },
    /// The connection is cut without an answer. Never reaches the server.
    Cut,
    /// The server gets it, does it and answers; the client's connection is cut instead. What a
    /// client must treat as unknown.
    LoseAnswer,
    /// No answer comes, ever; the connection stays open until the client gives up, the rule is
    /// removed or the proxy heals. Never reaches the server.
    BlackHole,
    /// The answer's body ends after so many bytes and the connection is cut: its Content-Length is a
    /// lie.
    TruncateAnswer {
        /// How many bytes of the body still arrive.
        after_bytes: u64,
    },
    /// One byte of the answer's body is another one than the server sent. Nothing if the body is
    /// shorter.
    CorruptAnswer {
        /// Which byte, from 0.
        at_byte: u64,
    },
    /// The server gets so many bytes of the request's body, then both connections are cut.
    TruncateRequest {
        /// How many bytes of the body still arrive.
        after_bytes: u64,
    },
    /// One byte of the request's body is another one than the client sent. Nothing if the body is
    /// shorter.
    CorruptRequest {
        /// Which byte, from 0.
        at_byte: u64,
    },
}

/// The state of the network between the client and the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Connections are made and stay.
    Up,
    /// Connections are refused; those that exist are cut.
    Refused,
    /// Connections are made, then nothing is read or answered; those that exist go silent.
    Silent,
}
