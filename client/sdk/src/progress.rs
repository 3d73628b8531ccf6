//! The messages of a long read on a server: a stream whose last message says that it is the last.

use std::time::Duration;

use cairn_proto::ServiceError;
use tonic::Streaming;

use crate::error::{Cause, Error, ErrorKind};

/// The next message, which comes within `silence_max`; a stream that just ends has not told all.
pub(crate) async fn next<M>(
    messages: &mut Streaming<M>,
    silence_max: Duration,
) -> std::result::Result<M, Cause> {
    match tokio::time::timeout(silence_max, messages.message()).await {
        Ok(Ok(Some(message))) => Ok(message),
        Ok(Ok(None)) => Err(Cause::Closed),
        Ok(Err(status)) => Err(status.into()),
        Err(_) => Err(Cause::Service(ServiceError::Deadline)),
    }
}

/// The read did not come to its end for this cause: it may another time, unless a row of the metadata
/// cannot be read.
pub(crate) fn broken_off(action: &'static str, subject: &str, cause: Cause) -> Error {
    let error = Error::new(action, subject, cause);
    if error.kind() == ErrorKind::Corrupt { error } else { error.with_kind(ErrorKind::Unavailable) }
}
