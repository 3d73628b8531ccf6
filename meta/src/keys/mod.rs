//! The state's rows, one file a record: this folder is the schema.

pub mod chunks;
pub mod mounts;
