//! Attributes and policies of what is there.

use std::time::Duration;

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::{self, StatRequest};
use cairn_types::limits::STATS_MAX;
use cairn_types::{FsError, Inode, Policy, Timestamp};
use tonic::Status;

use crate::answer::inode_of;
use crate::client::Client;
use crate::error::{Cause, Error, Result};
use crate::freshness::{Aged, Freshness};
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
    /// The time of the last change of content becomes the cluster's own at the change (UTIME_NOW);
    /// `mtime` must be `None` then.
    pub mtime_now: bool,
    /// The same for the time of the last access.
    pub atime_now: bool,
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
            mtime_now: self.mtime_now,
            atime_now: self.atime_now,
        }
    }
}

impl Client {
    pub(crate) async fn stat_wire(
        &self,
        action: &'static str,
        at: &At,
        no_follow: bool,
        freshness: Freshness,
    ) -> Result<v1::StatReply> {
        let target = at.wire(action, no_follow)?;
        let (consistency, max_age_ms) = freshness.wire(&self.reach().options);
        let request = |session| StatRequest {
            group: 0,
            target: Some(target.clone()),
            consistency,
            max_age_ms,
            session,
        };
        self.ask_imported_by(action, &at.to_string(), (freshness, request), |address, limit, request| {
            self.reach().stats.ask(address, request, limit)
        })
        .await
    }

    /// As [`stat`](Self::stat), by any metadata server and as things were at most `max_age` (1 ms at
    /// least) ago: the answer says how old it may be. Servers answer without asking the leader while
    /// they have heard from it as recently. A growing file's size is the last recorded one.
    ///
    /// # Errors
    /// As [`stat`](Self::stat); `Unavailable` when no server can tell that its state is so recent.
    pub async fn stat_within(&self, at: impl Into<At>, max_age: Duration) -> Result<Aged<Inode>> {
        let at = at.into();
        let reply = self.stat_wire("stat", &at, false, Freshness::Within(max_age)).await?;
        let value = inode_of("stat", &at.to_string(), reply.inode.as_ref())?;
        Ok(Aged { value, age_ms: reply.age_ms })
    }

    /// As [`stat`](Self::stat) of many, 512 to a call: each with its own outcome, in their order.
    /// Those of one call are from one point in time, but for the sizes of growing files.
    ///
    /// # Errors
    /// When a whole call failed: `Unavailable`, or `Invalid` for a path that is none.
    pub async fn stat_all<A: Into<At>>(
        &self,
        targets: impl IntoIterator<Item = A>,
    ) -> Result<Vec<Result<Inode>>> {
        let targets: Vec<At> = targets.into_iter().map(Into::into).collect();
        let mut found = Vec::with_capacity(targets.len());
        for some in targets.chunks(STATS_MAX) {
            let outcomes = self.stat_some(some).await?;
            for (at, outcome) in some.iter().zip(outcomes) {
                found.push(self.stat_outcome(at, outcome).await);
            }
        }
        Ok(found)
    }

    async fn stat_some(&self, targets: &[At]) -> Result<Vec<v1::StatOutcome>> {
        let subject = || targets.first().map(At::to_string).unwrap_or_default();
        let (consistency, max_age_ms) = Freshness::Newest.wire(&self.reach().options);
        let wire = targets.iter().map(|at| at.wire("stat", false)).collect::<Result<Vec<_>>>()?;
        let request = |session| v1::StatAllRequest {
            group: 0,
            targets: wire.clone(),
            consistency,
            max_age_ms,
            session,
        };
        let asked = (Freshness::Newest, request);
        let reply = self
            .ask_imported("stat", &subject(), asked, |mut meta, request| async move {
                meta.stat_all(request).await
            })
            .await?;
        if reply.outcomes.len() != targets.len() {
            return Err(Error::new("stat", subject(), Cause::MalformedAnswer("outcomes")));
        }
        Ok(reply.outcomes)
    }

    async fn stat_outcome(&self, at: &At, outcome: v1::StatOutcome) -> Result<Inode> {
        let reply = match outcome.outcome {
            Some(v1::stat_outcome::Outcome::Reply(reply)) => reply,
            Some(v1::stat_outcome::Outcome::Refusal(refusal)) => {
                let error = Error::new("stat", at, Cause::from(Status::from(refusal)));
                // A directory that is to be read from its bucket first.
                return match error.fs() {
                    Some(FsError::Importing { .. }) => self.stat_at(at, false).await,
                    _ => Err(error),
                };
            }
            None => return Err(Error::new("stat", at, Cause::MalformedAnswer("outcome"))),
        };
        let inode = inode_of("stat", &at.to_string(), reply.inode.as_ref())?;
        if inode.tail.is_some() { self.stat_at(&At::Inode(inode.ino), true).await } else { Ok(inode) }
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
        let reply = self.stat_wire("stat", at, no_follow, Freshness::Newest).await?;
        let mut inode = inode_of("stat", &at.to_string(), reply.inode.as_ref())?;
        if inode.tail.is_some() {
            let target = At::Inode(inode.ino).wire("stat", true)?;
            match read::View::load(self, &target, &at.to_string()).await {
                Ok(view) => {
                    let length = view.length();
                    inode = Inode { size: length, ..view.inode };
                }
                // Who may not read the file is told its last recorded length.
                Err(error) if error.fs() == Some(&FsError::PermissionDenied) => {}
                Err(error) => return Err(error),
            }
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
        let reply = self.stat_wire("read the policy", &at, false, Freshness::Newest).await?;
        let policy = reply.policy.unwrap_or_default();
        Policy::try_from(&policy).map_err(|e| Error::new("read the policy", &at, e))
    }
}
