//! [`MountConflict`]: a file and its object that were both changed.

use std::fmt;

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::{self, ConflictDismiss, ListConflictsRequest};
use cairn_types::{InodeId, MountId, Timestamp};

use super::ConflictRule;
use crate::client::Client;
use crate::error::Result;

/// Conflicts in one page.
const PAGE: u32 = 500;

/// A conflict's number in its mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConflictId(pub u64);

impl fmt::Display for ConflictId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What somebody else changed in a bucket while we changed it too, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountConflict {
    /// Its number.
    pub id: ConflictId,
    /// Its mount.
    pub mount: MountId,
    /// The object's key.
    pub key: Vec<u8>,
    /// When it was found.
    pub time: Timestamp,
    /// The ETag that we knew; empty: that nothing was there.
    pub expected_etag: String,
    /// The ETag that was found; empty: that nothing was there.
    pub found_etag: String,
    /// The file of the losing side, and where it is now; `None` when there is none.
    pub kept: Option<(InodeId, Vec<u8>)>,
    /// The rule that decided.
    pub rule: ConflictRule,
    /// What happened, for people.
    pub what: String,
}

impl From<v1::MountConflict> for MountConflict {
    fn from(conflict: v1::MountConflict) -> Self {
        let kept =
            (conflict.kept_ino != 0).then(|| (InodeId(conflict.kept_ino), conflict.kept_path.to_vec()));
        Self {
            id: ConflictId(conflict.conflict),
            mount: MountId(conflict.mount),
            key: conflict.key.to_vec(),
            time: Timestamp(conflict.time_ns),
            expected_etag: conflict.expected_etag,
            found_etag: conflict.found_etag,
            kept,
            rule: ConflictRule::of(conflict.rule),
            what: conflict.what,
        }
    }
}

impl Client {
    /// The conflicts of a mount that nobody dismissed, oldest first: at most `limit`, after the one named.
    ///
    /// # Errors
    /// `Unavailable` when no leader answers.
    pub async fn mount_conflicts(
        &self,
        mount: MountId,
        after: Option<ConflictId>,
        limit: usize,
    ) -> Result<Vec<MountConflict>> {
        let mut found: Vec<MountConflict> = Vec::new();
        let mut after = after.map_or(0, |id| id.0);
        while found.len() < limit {
            let page = u32::try_from(limit - found.len()).unwrap_or(PAGE).min(PAGE);
            let request = ListConflictsRequest { mount: mount.0, after, limit: page };
            let reply = self
                .reach()
                .leader
                .call("list conflicts", "", request, |mut meta, request| async move {
                    meta.list_conflicts(request).await
                })
                .await?;
            let last = reply.conflicts.last().map(|conflict| conflict.conflict);
            found.extend(reply.conflicts.into_iter().map(MountConflict::from));
            match last {
                Some(last) if reply.more && last > after => after = last,
                _ => break,
            }
        }
        Ok(found)
    }

    /// Forgets a conflict that was looked at. Its files stay. Durable, on a majority of the metadata servers,
    /// when this returns.
    ///
    /// # Errors
    /// `NoSuchMount`, `NotFound`.
    pub async fn conflict_dismiss(&self, mount: MountId, conflict: ConflictId) -> Result<()> {
        let dismiss = ConflictDismiss { mount: mount.0, conflict: conflict.0 };
        let subject = format!("conflict {conflict}");
        self.change_named("dismiss", &subject, Operation::ConflictDismiss(dismiss)).await.map(|_| ())
    }
}
