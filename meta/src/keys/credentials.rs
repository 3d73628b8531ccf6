//! `credentials`: session → [`Credentials`] of a session whose requests are checked.

use cairn_types::{Credentials, SessionId};

use super::Record;
use crate::store::Table;

impl Record for Credentials {
    const TABLE: Table = Table::Credentials;
}

/// The row's key.
#[must_use]
pub fn key(session: SessionId) -> Vec<u8> {
    session.0.to_be_bytes().to_vec()
}
