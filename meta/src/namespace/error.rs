//! [`NamespaceError`]: a refusal that every server derives alike, or a fault of this server.

use cairn_types::FsError;

use crate::keys::RowFault;
use crate::store::StoreFault;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The deterministic outcome: part of the reply.
    #[error(transparent)]
    Refused(#[from] FsError),
    /// This server's state cannot be read: it must stop applying, and a read says `Damaged` or `Internal`.
    #[error(transparent)]
    Fault(#[from] RowFault),
}

impl From<StoreFault> for NamespaceError {
    fn from(fault: StoreFault) -> Self {
        Self::Fault(fault.into())
    }
}

/// The outcome of a step of the state machine, or of a read.
pub type Outcome<T> = Result<T, NamespaceError>;

/// Refuses.
pub(super) fn refuse<T>(error: FsError) -> Outcome<T> {
    Err(NamespaceError::Refused(error))
}
