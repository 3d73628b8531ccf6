//! [`PolicyInForce`]: by what a path's bytes are kept, and where that is set.

use cairn_proto::v1;
use cairn_types::{InodeId, Policy};

use crate::client::Client;
use crate::error::{Cause, Error, Result};
use crate::freshness::Freshness;
use crate::target::At;

const ACTION: &str = "read the policy";

/// The policy in force at a path. A directory has its own, as a whole, or inherits that of the nearest one
/// above that has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyInForce {
    /// The policy.
    pub policy: Policy,
    /// The inode that was asked about.
    pub ino: InodeId,
    /// The directory that it is set on: the root when nobody set any.
    pub origin: InodeId,
    /// That directory's path; empty when it has none any more.
    pub origin_path: Vec<u8>,
}

impl PolicyInForce {
    /// True when it is set on a directory above.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.ino != self.origin
    }
}

impl Client {
    /// The policy in force at a path, and the directory that it is set on. Linearizable. Of a file of
    /// several names by its first one, as its next bytes are kept.
    ///
    /// # Errors
    /// Those of [`stat`](Self::stat).
    pub async fn policy_in_force(&self, at: impl Into<At>) -> Result<PolicyInForce> {
        let at = at.into();
        let target = at.wire(ACTION, false)?;
        let request = |session| v1::GetPolicyRequest { group: 0, target: Some(target.clone()), session };
        let reply = self
            .ask_imported(
                ACTION,
                &at.to_string(),
                (Freshness::Newest, request),
                |mut meta, request| async move { meta.get_policy(request).await },
            )
            .await?;
        let missing = |field| Error::new(ACTION, &at, Cause::MalformedAnswer(field));
        let policy = reply.policy.ok_or_else(|| missing("policy"))?;
        let origin = reply.origin.ok_or_else(|| missing("origin"))?;
        Ok(PolicyInForce {
            policy: Policy::try_from(&policy).map_err(|error| Error::new(ACTION, &at, error))?,
            ino: InodeId(reply.ino),
            origin: InodeId(origin.ino),
            origin_path: origin.path.to_vec(),
        })
    }
}
