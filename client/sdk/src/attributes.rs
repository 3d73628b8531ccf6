//! Attributes and policies of what is there.

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::{self, StatRequest};
use cairn_types::{Inode, Policy, Timestamp};

use crate::answer::inode_of;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::read;
use crate::target::At;

/// What [`Client::set_attr`] changes; `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttrChange {
    /// Permission bits, 0–0o7777.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length in bytes: cut, or grown with zeros.
    pub size: Option<u64>,
    /// Time of the last change of content.
    pub mtime: Option<Timestamp>,
    /// Time of the last access.
    pub atime: Option<Timestamp>,
    /// Refuse with `VersionMismatch` unless the inode is at this version.
    pub expected_version: Option<u64>,
}

impl AttrChange {
    pub(crate) fn wire(&self, target: v1::Target) -> v1::SetAttr {
        v1::SetAttr {
            target: Some(target),
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            size: self.size,
            mtime_ns: self.mtime.map(|t| t.0),
            atime_ns: self.atime.map(|t| t.0),
            expected_version: self.expected_version,
        }
    }
}

impl Client {
    pub(crate) async fn stat_wire(
        &self,
        action: &'static str,
        at: &At,
        no_follow: bool,
    ) -> Result<v1::StatReply> {
        let target = at.wire(action, no_follow)?;
        let request = StatRequest { group: 0, target: Some(target), consistency: 0 };
        self.ask_imported(action, &at.to_string(), request, |mut meta, request| async move {
            meta.stat(request).await
        })
        .await
    }

    /// Attributes; a symlink that is the last component is followed. Linearizable. For a growing
    /// file the size is that of all acknowledged bytes.
    ///
    /// # Errors
    /// What path resolution met: `NotFound`, `NotDirectory`, `TooManySymlinks`.
    pub async fn stat(&self, at: impl Into<At>) -> Result<Inode> {
        self.stat_at(&at.into(), false).await
    }

    /// As [`stat`](Self::stat), of a symlink itself.
    ///
    /// # Errors
    /// As [`stat`](Self::stat).
    pub async fn symlink_stat(&self, at: impl Into<At>) -> Result<Inode> {
        self.stat_at(&at.into(), true).await
    }

    pub(crate) async fn stat_at(&self, at: &At, no_follow: bool) -> Result<Inode> {
        let reply = self.stat_wire("stat", at, no_follow).await?;
        let mut inode = inode_of("stat", &at.to_string(), reply.inode.as_ref())?;
        if inode.tail.is_some() {
            let target = At::Inode(inode.ino).wire("stat", true)?;
            let view = read::View::load(self, &target, &at.to_string()).await?;
            let length = view.length();
            inode = view.inode;
            inode.size = length;
        }
        Ok(inode)
    }

    /// Changes attributes. A growing file is sealed first when its size is set. The change is
    /// durable, on a majority of the metadata servers, when this returns.
    ///
    /// # Errors
    /// `VersionMismatch`, `FileTooLarge`, `IsDirectory` (for a size).
    pub async fn set_attr(&self, at: impl Into<At>, change: AttrChange) -> Result<Inode> {
        let at = at.into();
        let set = change.wire(at.wire("set attributes", false)?);
        let reply = self.change("set attributes", &at, Operation::SetAttr(set)).await?;
        inode_of("set attributes", &at.to_string(), reply.inode.as_ref())
    }

    /// Sets a directory's policy for what is written under it from now on; `None` inherits again.
    /// It is durable, on a majority of the metadata servers, when this returns. Other clients may
    /// write by the old policy for some seconds more.
    ///
    /// # Errors
    /// `InvalidPolicy`, `NotDirectory`.
    pub async fn set_policy(&self, at: impl Into<At>, policy: Option<Policy>) -> Result<()> {
        let at = at.into();
        let target = Some(at.wire("set the policy", false)?);
        let set = v1::SetPolicy { target, policy: policy.as_ref().map(v1::Policy::from) };
        self.change("set the policy", &at, Operation::SetPolicy(set)).await?;
        self.forget_policies();
        Ok(())
    }

    /// The policy in force at a path.
    ///
    /// # Errors
    /// Those of [`stat`](Self::stat).
    pub async fn policy(&self, at: impl Into<At>) -> Result<Policy> {
        let at = at.into();
        let reply = self.stat_wire("read the policy", &at, false).await?;
        let policy = reply.policy.unwrap_or_default();
        Policy::try_from(&policy).map_err(|e| Error::new("read the policy", &at, e))
    }
}
