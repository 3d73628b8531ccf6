//! Mounts: a bucket and prefix at a path. Read-only for now.

use std::time::Duration;

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::{ListMountsRequest, MountAdd, MountRemove};
use cairn_types::MountId;

use crate::client::Client;
use crate::error::Result;
use crate::target::At;

/// Where a mount's objects are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    /// The bucket.
    pub bucket: String,
    /// The prefix, without a leading slash; empty for the whole bucket.
    pub prefix: String,
    /// `http(s)://host:port` of an endpoint other than AWS; empty for AWS.
    pub endpoint: String,
    /// The region.
    pub region: String,
    /// Put the bucket in the path, not in the host name.
    pub force_path_style: bool,
    /// A directory read from the bucket is read again after this time.
    pub refresh: Duration,
}

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountStatus {
    /// Its id.
    pub id: MountId,
    /// Its path.
    pub path: Vec<u8>,
    /// Where its objects are.
    pub options: MountOptions,
    /// True while nothing can be written under it.
    pub read_only: bool,
}

impl Client {
    /// Binds a path, made if it is missing, to a bucket and prefix. Its objects are files at
    /// once; each directory is listed in the bucket when it is first asked for. The mount is
    /// durable, on a majority of the metadata servers, when this returns.
    ///
    /// # Errors
    /// `NotEmpty` when the directory holds entries, `CrossMount` inside another mount.
    pub async fn mount_add(&self, at: impl Into<At>, options: MountOptions) -> Result<MountId> {
        let at = at.into();
        let add = MountAdd {
            target: Some(at.wire("mount", false)?),
            bucket: options.bucket,
            prefix: options.prefix,
            endpoint: options.endpoint,
            region: options.region,
            refresh_ms: u64::try_from(options.refresh.as_millis()).unwrap_or(u64::MAX),
            force_path_style: options.force_path_style,
            access: None,
            rules: None,
        };
        let reply = self.reach().session.change("mount", &at.to_string(), &Operation::MountAdd(add)).await?;
        Ok(MountId(reply.mount.unwrap_or_default()))
    }

    /// Unbinds a mount's path. The bucket stays as it is. The removal is durable, on a majority of
    /// the metadata servers, when this returns.
    ///
    /// # Errors
    /// `NoSuchMount`.
    pub async fn mount_remove(&self, at: impl Into<At>) -> Result<()> {
        let at = at.into();
        let remove = MountRemove { target: Some(at.wire("unmount", false)?), abandon: false };
        self.reach()
            .session
            .change("unmount", &at.to_string(), &Operation::MountRemove(remove))
            .await
            .map(|_| ())
    }

    /// Every mount.
    ///
    /// # Errors
    /// `Unavailable` when no leader answers.
    pub async fn mounts(&self) -> Result<Vec<MountStatus>> {
        let reply = self
            .reach()
            .leader
            .call("list mounts", "", ListMountsRequest::default(), |mut meta, request| async move {
                meta.list_mounts(request).await
            })
            .await?;
        let status = |m: cairn_proto::v1::Mount| MountStatus {
            id: MountId(m.mount),
            path: m.path.to_vec(),
            options: MountOptions {
                bucket: m.bucket,
                prefix: m.prefix,
                endpoint: m.endpoint,
                region: m.region,
                force_path_style: m.force_path_style,
                refresh: Duration::from_millis(m.refresh_ms),
            },
            read_only: m.read_only,
        };
        Ok(reply.mounts.into_iter().map(status).collect())
    }
}
