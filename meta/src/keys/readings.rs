//! `readings`: (mount, prefix, import), the imports that list a prefix; and `shields`: (import, key), keys that were
//! changed since it began, and that it passes over: it may tell how they were before. Rows of imports that are over
//! mean nothing, and go with later ones.

use cairn_types::{IntentId, MountId};

/// What the keys in `readings` of one prefix begin with.
#[must_use]
pub fn of_prefix(mount: MountId, prefix: &[u8]) -> Vec<u8> {
    let mut key = mount.0.to_be_bytes().to_vec();
    // So that no other prefix begins like it.
    key.extend_from_slice(&(prefix.len() as u32).to_be_bytes());
    key.extend_from_slice(prefix);
    key
}

/// The key in `readings`.
#[must_use]
pub fn key(mount: MountId, prefix: &[u8], import: IntentId) -> Vec<u8> {
    let mut key = of_prefix(mount, prefix);
    key.extend_from_slice(&import.0.to_be_bytes());
    key
}

/// What the keys in `shields` of one import begin with.
#[must_use]
pub fn shields_of(import: IntentId) -> Vec<u8> {
    import.0.to_be_bytes().to_vec()
}

/// The key in `shields`.
#[must_use]
pub fn shield(import: IntentId, object: &[u8]) -> Vec<u8> {
    let mut key = shields_of(import);
    key.extend_from_slice(object);
    key
}

/// The import that a key of `readings` ends with, or one of `shields` begins with.
#[must_use]
pub fn import(bytes: Option<&[u8; 8]>) -> Option<IntentId> {
    bytes.map(|bytes| IntentId(u64::from_be_bytes(*bytes)))
}
