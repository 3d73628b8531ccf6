//! What a mounted bucket holds, as its endpoint lists it, and where the bytes of a mounted file are.

use std::collections::BTreeSet;
use std::time::Duration;

use cairn_proto::ServiceError;
use cairn_proto::v1::{ListObjectsReply, ListObjectsRequest};
use cairn_types::{FsError, Inode, Timestamp};

use super::MountStatus;
use crate::client::Client;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::read::View;
use crate::target::At;

/// How long a data node may take for a page.
const ASK: Duration = Duration::from_secs(20);
const ACTION: &str = "list the bucket of";

/// An object, by its name in its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectAt {
    /// What of its key lies behind the directory's prefix.
    pub name: Vec<u8>,
    /// Its ETag.
    pub etag: String,
    /// Bytes.
    pub size: u64,
    /// When it was written last.
    pub mtime: Timestamp,
}

/// A page of what a bucket holds in a directory of a mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedObjects {
    /// Objects, in the order of the endpoint.
    pub objects: Vec<ObjectAt>,
    /// Names of directories: what keys with a slash behind the prefix begin with.
    pub directories: Vec<Vec<u8>>,
    /// Keys that no name can be made of, and why.
    pub left_out: Vec<(String, String)>,
    /// Where the next page begins; `None` after the last.
    pub continuation: Option<String>,
}

/// Where the bytes of a mounted file are, as the metadata has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileObjects {
    /// The file.
    pub inode: Inode,
    /// Bytes that are the cluster's, and not, or not yet, in an object of the mount.
    pub cluster_bytes: u64,
    /// Keys and ETags of the objects that hold the others.
    pub objects: BTreeSet<(Vec<u8>, String)>,
}

impl MountStatus {
    /// The prefix of what lies in a directory of the mount, `below` being its path from the root.
    #[must_use]
    pub fn prefix_of(&self, below: &[u8]) -> Vec<u8> {
        let mut prefix = self.options.prefix.trim_end_matches('/').as_bytes().to_vec();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        prefix.extend_from_slice(below);
        if !below.is_empty() && !below.ends_with(b"/") {
            prefix.push(b'/');
        }
        prefix
    }
}

impl Client {
    /// A page of what the bucket holds in a directory of a mount, asked of its endpoint now, by a data node.
    /// `below` is the directory's path from the mount's root, empty for the root.
    ///
    /// # Errors
    /// `InvalidName` for a path that is no UTF-8, which no key is; `Unavailable` when no data node, or the
    /// endpoint, answers.
    pub async fn mount_objects(
        &self,
        mount: &MountStatus,
        below: &[u8],
        continuation: Option<String>,
    ) -> Result<ListedObjects> {
        let subject = String::from_utf8_lossy(&mount.path).into_owned();
        let prefix = String::from_utf8(mount.prefix_of(below));
        let prefix = prefix.map_err(|_| Error::new(ACTION, &subject, FsError::InvalidName))?;
        let options = &mount.options;
        let request = ListObjectsRequest {
            bucket: options.bucket.clone(),
            endpoint: options.endpoint.clone(),
            region: options.region.clone(),
            force_path_style: options.force_path_style,
            access: Some((&options.access).into()),
            prefix,
            continuation: continuation.unwrap_or_default(),
            root: below.is_empty(),
        };
        let mut last = Cause::Service(ServiceError::UnderStore);
        for address in self.alive_nodes(false).await? {
            match self.ask_for_objects(&address, request.clone()).await {
                Ok(page) => return Ok(page.into()),
                Err(cause) => last = cause,
            }
        }
        Err(Error::new(ACTION, &subject, last).with_kind(ErrorKind::Unavailable))
    }

    async fn ask_for_objects(
        &self,
        address: &str,
        request: ListObjectsRequest,
    ) -> std::result::Result<ListObjectsReply, Cause> {
        let connections = &self.reach().connections;
        let asked = async {
            let request = connections.request(request, ASK);
            Ok::<_, Cause>(connections.data(address)?.list_objects(request).await?.into_inner())
        };
        tokio::time::timeout(ASK, asked).await.unwrap_or_else(|_| Err(ServiceError::Deadline.into()))
    }

    /// Where the bytes of a file of a mount are, as the metadata has it; of a growing one without those of its
    /// open tail.
    ///
    /// # Errors
    /// Those of [`stat`](Self::stat); `NotFile` for what is none.
    pub async fn file_objects(&self, at: impl Into<At>) -> Result<FileObjects> {
        let at = at.into();
        let target = at.wire("look for the objects of", true)?;
        let view = View::load_recorded(self, &target, &at.to_string()).await?;
        let objects = view.objects().map(|object| (object.key.clone(), object.etag.clone())).collect();
        Ok(FileObjects { cluster_bytes: view.chunk_bytes(), objects, inode: view.inode })
    }
}

impl From<ListObjectsReply> for ListedObjects {
    fn from(reply: ListObjectsReply) -> Self {
        let objects = reply.objects.into_iter().map(|object| ObjectAt {
            name: object.name.into_bytes(),
            etag: object.etag,
            size: object.size,
            mtime: Timestamp(object.mtime_ns),
        });
        Self {
            objects: objects.collect(),
            directories: reply.directories.into_iter().map(String::into_bytes).collect(),
            left_out: reply.left_out.into_iter().map(|key| (key.key, key.why)).collect(),
            continuation: Some(reply.continuation).filter(|at| !at.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::{InodeId, MountId};

    use super::*;
    use crate::MountOptions;

    #[test]
    fn a_directory_s_prefix_ends_with_a_slash_unless_it_is_all() {
        let mount = |prefix: &str| MountStatus {
            id: MountId(1),
            path: b"/m".to_vec(),
            root: InodeId(2),
            options: MountOptions { prefix: prefix.to_owned(), ..MountOptions::default() },
            read_only: false,
            read_only_because: String::new(),
            abilities: None,
            figures: None,
        };
        for (prefix, below, whole) in
            [("", "", ""), ("", "a/b", "a/b/"), ("p", "", "p/"), ("p/", "", "p/"), ("p/q/", "a", "p/q/a/")]
        {
            assert_eq!(mount(prefix).prefix_of(below.as_bytes()), whole.as_bytes(), "{prefix} {below}");
        }
    }
}
