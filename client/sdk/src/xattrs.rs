//! Extended attributes.

use cairn_proto::v1;
use cairn_proto::v1::mutate_request::Operation;
use cairn_types::Inode;

use crate::answer::inode_of;
use crate::client::Client;
use crate::error::Result;
use crate::freshness::Freshness;
use crate::target::At;

/// What [`Client::set_xattr`] does about an attribute that exists, or does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XattrMode {
    /// Make it or replace it.
    #[default]
    Any,
    /// Refuse one that exists with `Exists` (XATTR_CREATE of setxattr(2)).
    Create,
    /// Refuse one that does not with `NoSuchAttribute` (XATTR_REPLACE).
    Replace,
}

/// Names are `user.…` (of files and directories alone), `trusted.…` and `security.…`, 255 bytes at
/// most; an inode has 256 attributes at most, and 64 KiB in their values together. They are the
/// inode's own: every name of it has them, a rename keeps them. `no_follow` means a symlink itself.
impl Client {
    /// Sets an extended attribute. It is durable, on a majority of the metadata servers, when this
    /// returns.
    ///
    /// # Errors
    /// `Exists` or `NoSuchAttribute` as `mode` says; `NotSupported` and `InvalidName` for other
    /// names; `AttributeTooLarge`, `TooManyAttributes`; `NotPermitted` for `user.` on what is no file
    /// or directory.
    pub async fn set_xattr(
        &self,
        at: impl Into<At>,
        no_follow: bool,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        mode: XattrMode,
    ) -> Result<Inode> {
        let at = at.into();
        let set = v1::SetXattr {
            target: Some(at.wire("set the attribute", no_follow)?),
            name: name.as_ref().to_vec().into(),
            value: value.as_ref().to_vec().into(),
            create: mode == XattrMode::Create,
            replace: mode == XattrMode::Replace,
        };
        let reply = self.change("set the attribute", &at, Operation::SetXattr(set)).await?;
        inode_of("set the attribute", &at.to_string(), reply.inode.as_ref())
    }

    /// An extended attribute's value. Linearizable.
    ///
    /// # Errors
    /// `NoSuchAttribute`; `NotSupported` and `InvalidName` for other names.
    pub async fn get_xattr(
        &self,
        at: impl Into<At>,
        no_follow: bool,
        name: impl AsRef<[u8]>,
    ) -> Result<Vec<u8>> {
        let (action, at) = ("read the attribute", at.into());
        let target = at.wire(action, no_follow)?;
        let request = |session| v1::GetXattrRequest {
            group: 0,
            target: Some(target.clone()),
            name: name.as_ref().to_vec().into(),
            consistency: Freshness::Newest.wire(&self.reach().options).0,
            session,
        };
        let reply = self
            .ask_imported(
                action,
                &at.to_string(),
                (Freshness::Newest, request),
                |mut meta, request| async move { meta.get_xattr(request).await },
            )
            .await?;
        Ok(reply.value.to_vec())
    }

    /// The names of an inode's extended attributes, in the order of their bytes. Linearizable.
    ///
    /// # Errors
    /// Those of [`stat`](Self::stat).
    pub async fn list_xattrs(&self, at: impl Into<At>, no_follow: bool) -> Result<Vec<Vec<u8>>> {
        let (action, at) = ("list the attributes", at.into());
        let target = at.wire(action, no_follow)?;
        let request = |session| v1::ListXattrsRequest {
            group: 0,
            target: Some(target.clone()),
            consistency: Freshness::Newest.wire(&self.reach().options).0,
            session,
        };
        let reply = self
            .ask_imported(
                action,
                &at.to_string(),
                (Freshness::Newest, request),
                |mut meta, request| async move { meta.list_xattrs(request).await },
            )
            .await?;
        Ok(reply.names.into_iter().map(|name| name.to_vec()).collect())
    }

    /// Removes an extended attribute. The removal is durable, on a majority of the metadata servers,
    /// when this returns.
    ///
    /// # Errors
    /// `NoSuchAttribute`; `NotSupported` and `InvalidName` for other names.
    pub async fn remove_xattr(
        &self,
        at: impl Into<At>,
        no_follow: bool,
        name: impl AsRef<[u8]>,
    ) -> Result<Inode> {
        let at = at.into();
        let target = Some(at.wire("remove the attribute", no_follow)?);
        let remove = v1::RemoveXattr { target, name: name.as_ref().to_vec().into() };
        let reply = self.change("remove the attribute", &at, Operation::RemoveXattr(remove)).await?;
        inode_of("remove the attribute", &at.to_string(), reply.inode.as_ref())
    }
}
