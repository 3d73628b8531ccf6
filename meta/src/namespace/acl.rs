//! POSIX ACLs, as Linux has them in `system.posix_acl_access` and `system.posix_acl_default`
//! (acl(5); the bytes: linux/posix_acl_xattr.h): a version, then entries of tag, permissions, id.

use cairn_types::limits::ACL_ENTRIES_MAX;
use cairn_types::{Credentials, FileKind, FsError, Inode};

use super::error::Outcome;
use super::state::State;

/// Who may do what with the inode itself.
pub const ACCESS: &[u8] = b"system.posix_acl_access";
/// What a directory hands on to what is made in it.
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const ENTRY_BYTES: usize = 8;
const NO_ID: u32 = u32::MAX;

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// The owner.
    Owner,
    /// A user.
    User(u32),
    /// The inode's group.
    OwningGroup,
    /// A group.
    Group(u32),
    /// The most that users and groups get.
    Mask,
    /// Everybody else.
    Other,
}

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AclEntry {
    /// What it is about.
    pub tag: Tag,
    /// What it grants: 4 read, 2 write, 1 search or execute.
    pub grants: u32,
}

/// A valid ACL: the owner, users, the owning group, groups, a mask (which is there when users or
/// groups are), others, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    entries: Vec<AclEntry>,
}

impl Acl {
    /// Reads an ACL and checks it.
    ///
    /// # Errors
    /// [`FsError::InvalidRequest`] for bytes that are no valid ACL; [`FsError::AttributeTooLarge`]
    /// for more than 1,024 entries.
    pub fn parse(bytes: &[u8]) -> Result<Self, FsError> {
        let invalid = FsError::InvalidRequest;
        let (version, rest) = bytes.split_first_chunk::<4>().ok_or(invalid.clone())?;
        if u32::from_le_bytes(*version) != VERSION || !rest.len().is_multiple_of(ENTRY_BYTES) {
            return Err(invalid);
        }
        if rest.len() / ENTRY_BYTES > ACL_ENTRIES_MAX {
            return Err(FsError::AttributeTooLarge);
        }
        let entries = rest.chunks_exact(ENTRY_BYTES).map(entry).collect::<Option<Vec<_>>>();
        let acl = Self { entries: entries.ok_or(invalid.clone())? };
        if acl.is_valid() { Ok(acl) } else { Err(invalid) }
    }

    /// True for the bytes of an ACL without entries: to set it removes the one there is.
    #[must_use]
    pub fn is_nothing(bytes: &[u8]) -> bool {
        bytes == VERSION.to_le_bytes()
    }

    /// The bytes that [`Acl::parse`] reads.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for entry in &self.entries {
            let (tag, id): (u16, u32) = match entry.tag {
                Tag::Owner => (0x01, NO_ID),
                Tag::User(uid) => (0x02, uid),
                Tag::OwningGroup => (0x04, NO_ID),
                Tag::Group(gid) => (0x08, gid),
                Tag::Mask => (0x10, NO_ID),
                Tag::Other => (0x20, NO_ID),
            };
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&(entry.grants as u16).to_le_bytes());
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        bytes
    }

    fn is_valid(&self) -> bool {
        let rank = |tag| match tag {
            Tag::Owner => 0,
            Tag::User(_) => 1,
            Tag::OwningGroup => 2,
            Tag::Group(_) => 3,
            Tag::Mask => 4,
            Tag::Other => 5,
        };
        let ranks: Vec<u8> = self.entries.iter().map(|e| rank(e.tag)).collect();
        let count = |wanted| ranks.iter().filter(|rank| **rank == wanted).count();
        let once = [0, 2, 5].into_iter().all(|rank| count(rank) == 1);
        let mask = count(4) == 1 || (count(4) == 0 && count(1) + count(3) == 0);
        once && mask && ranks.is_sorted()
    }

    fn find(&self, tag: Tag) -> u32 {
        self.entries.iter().find(|e| e.tag == tag).map_or(0, |e| e.grants)
    }

    fn mask(&self) -> Option<u32> {
        self.entries.iter().find(|e| e.tag == Tag::Mask).map(|e| e.grants)
    }

    /// True when a mode says all of it.
    #[must_use]
    pub fn is_a_mode(&self) -> bool {
        self.entries.len() == 3
    }

    /// The permission bits that stand for it in a mode.
    #[must_use]
    pub fn mode(&self) -> u32 {
        let group = self.mask().unwrap_or_else(|| self.find(Tag::OwningGroup));
        (self.find(Tag::Owner) << 6) | (group << 3) | self.find(Tag::Other)
    }

    /// The ACL after the mode was set.
    #[must_use]
    pub fn with_mode(mut self, mode: u32) -> Self {
        let of_group = if self.mask().is_some() { Tag::Mask } else { Tag::OwningGroup };
        for entry in &mut self.entries {
            match entry.tag {
                Tag::Owner => entry.grants = (mode >> 6) & 7,
                Tag::Other => entry.grants = mode & 7,
                tag if tag == of_group => entry.grants = (mode >> 3) & 7,
                _ => {}
            }
        }
        self
    }

    /// The access ACL of what is made with `mode` in a directory that has this as its default one.
    #[must_use]
    pub fn inherited(&self, mode: u32) -> Self {
        let both = self.mode() & mode;
        self.clone().with_mode(both)
    }

    /// True when it grants `who`, who is not the owner, all of `want`.
    #[must_use]
    pub fn grants(&self, who: &Credentials, inode: &Inode, want: u32) -> bool {
        let masked = |bits: u32| bits & self.mask().unwrap_or(7) & want == want;
        if let Some(user) = self.entries.iter().find(|e| e.tag == Tag::User(who.uid)) {
            return masked(user.grants);
        }
        let mut is_member = false;
        for entry in &self.entries {
            let member = match entry.tag {
                Tag::OwningGroup => who.is_in(inode.gid),
                Tag::Group(gid) => who.is_in(gid),
                _ => false,
            };
            if member && masked(entry.grants) {
                return true;
            }
            is_member |= member;
        }
        !is_member && self.find(Tag::Other) & want == want
    }
}

fn entry(bytes: &[u8]) -> Option<AclEntry> {
    let (tag, rest) = bytes.split_first_chunk::<2>()?;
    let (grants, rest) = rest.split_first_chunk::<2>()?;
    let id = u32::from_le_bytes(*rest.first_chunk::<4>()?);
    let tag = match u16::from_le_bytes(*tag) {
        0x01 => Tag::Owner,
        0x02 if id != NO_ID => Tag::User(id),
        0x04 => Tag::OwningGroup,
        0x08 if id != NO_ID => Tag::Group(id),
        0x10 => Tag::Mask,
        0x20 => Tag::Other,
        _ => return None,
    };
    let grants = u32::from(u16::from_le_bytes(*grants));
    (grants <= 7).then_some(AclEntry { tag, grants })
}

impl State<'_, '_> {
    /// An ACL of an inode; one read where it has no attributes.
    pub fn acl(&self, inode: &Inode, name: &[u8]) -> Outcome<Option<Acl>> {
        if self.xattr_totals(inode.ino)?.count == 0 {
            return Ok(None);
        }
        let value = self.xattr(inode.ino, name)?;
        Ok(value.map(|bytes| Acl::parse(&bytes)).transpose()?)
    }

    /// Sets an access ACL: what a mode can say becomes the mode, the rest beside it an attribute. The
    /// caller writes the inode.
    pub fn set_access_acl(&mut self, inode: &mut Inode, acl: Option<&Acl>) -> Outcome<()> {
        if let Some(acl) = acl {
            inode.mode = (inode.mode & !0o777) | acl.mode();
            if self.limited().is_some_and(|who| !who.is_in(inode.gid)) {
                inode.mode &= !0o2000;
            }
        }
        match acl.filter(|acl| !acl.is_a_mode()) {
            Some(acl) => self.put_xattr(inode.ino, ACCESS, &acl.to_bytes()),
            None => {
                self.drop_xattr(inode.ino, ACCESS)?;
                Ok(())
            }
        }
    }

    /// Keeps an access ACL in step with a mode that was set.
    pub fn follow_mode(&mut self, inode: &Inode) -> Outcome<()> {
        match self.acl(inode, ACCESS)? {
            Some(acl) => self.put_xattr(inode.ino, ACCESS, &acl.with_mode(inode.mode).to_bytes()),
            None => Ok(()),
        }
    }

    /// Gives a new inode what the default ACL of its directory says.
    pub fn inherit_acl(&mut self, parent: &Inode, inode: &mut Inode) -> Outcome<()> {
        if inode.kind == FileKind::Symlink {
            return Ok(());
        }
        let Some(default) = self.acl(parent, DEFAULT)? else { return Ok(()) };
        let access = default.inherited(inode.mode);
        inode.mode = (inode.mode & !0o777) | access.mode();
        if !access.is_a_mode() {
            self.put_xattr(inode.ino, ACCESS, &access.to_bytes())?;
        }
        if inode.is_dir() {
            self.put_xattr(inode.ino, DEFAULT, &default.to_bytes())?;
        }
        Ok(())
    }

    /// Sets an ACL attribute, or removes it with `None`; the caller writes the inode.
    pub fn change_acl(&mut self, inode: &mut Inode, name: &[u8], value: Option<&[u8]>) -> Outcome<()> {
        let acl = match value {
            Some(bytes) if !Acl::is_nothing(bytes) => Some(Acl::parse(bytes)?),
            _ => None,
        };
        if name == ACCESS {
            return self.set_access_acl(inode, acl.as_ref());
        }
        match acl {
            Some(_) if !inode.is_dir() => Err(FsError::PermissionDenied.into()),
            Some(acl) => self.put_xattr(inode.ino, DEFAULT, &acl.to_bytes()),
            None => {
                self.drop_xattr(inode.ino, DEFAULT)?;
                Ok(())
            }
        }
    }
}
