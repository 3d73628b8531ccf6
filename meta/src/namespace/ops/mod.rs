//! One file a verb: what each command and operation does to the state.

pub(super) mod cluster;
pub(super) mod commit;
pub(super) mod create;
pub(super) mod import;
pub(super) mod intent;
pub(super) mod link;
pub(super) mod mkdir;
pub(super) mod mount;
pub(super) mod node;
pub(super) mod open;
pub(super) mod pack;
pub(super) mod purge;
pub(super) mod rename;
pub(super) mod repair;
pub(super) mod replica;
pub(super) mod rmdir;
pub(super) mod seal;
pub(super) mod session;
pub(super) mod set_attr;
pub(super) mod set_policy;
pub(super) mod symlink;
pub(super) mod unlink;
