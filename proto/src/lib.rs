//! The wire: generated messages of `proto/*.proto`, their conversions to and from
//! [`cairn_types`], and the one mapping of errors to gRPC statuses.

pub mod convert;
pub mod frames;
mod fs_kinds;
pub mod handshake;
mod service_error;
pub mod slow;
pub mod status;
pub mod trace;

/// The generated messages and services of package `cairn.v1`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("cairn.v1");
}

pub use convert::BadMessage;
pub use status::{ServiceError, WireError};
