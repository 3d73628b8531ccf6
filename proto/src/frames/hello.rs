//! What each side of a framed connection says first. Numbers are little-endian.
//!
//! ```text
//! hello (48 bytes)                           welcome (152 bytes)
//!  0  [u8; 4]   magic ca 49 52 4e             0  [u8; 4]    magic
//!  4  u16       the protocol it speaks        4  u16        the protocol that is spoken from here on
//!  6  u16       the lowest it still speaks    6  u8         0 welcome; else why not
//!  8  u8        who calls: 1 client, 2 node   7  u8         bytes of the socket's path
//!  9  u8        framing: 1                    8  u64        node
//! 10  u16       0                            16  u64        its incarnation
//! 12  [u8; 16]  cluster                      24  [u8; 16]   boot id of its machine; 0: unknown
//! 28  u64       the node it means; 0: any    40  [u8; 108]  path of its unix socket, then zeros
//! 36  u64       its incarnation; 0: any     148  u32        CRC32C of what is before
//! 44  u32       CRC32C of what is before
//! ```
//! The first byte tells a framed connection from one of HTTP/2, which begins with `P`: both come to the
//! same port. Whoever refuses says why in a welcome without the rest, and closes. The protocol is that of
//! the messages (`PROTOCOL_VERSION`), the framing that of what is around them.

use std::path::PathBuf;

use bytes::{Buf, BufMut};
use cairn_types::limits::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};
use cairn_types::{ClusterId, Incarnation, NodeId};

/// The first bytes of a framed connection, either way.
pub const MAGIC: [u8; 4] = [0xca, b'I', b'R', b'N'];
/// Bytes of a hello.
pub const HELLO_BYTES: usize = 48;
/// Bytes of a welcome.
pub const WELCOME_BYTES: usize = 152;
/// Bytes of a unix socket's path, at most (Linux's own limit, with its closing zero).
pub const SOCKET_BYTES_MAX: usize = 107;

const FRAMING: u8 = 1;
const CRC_BYTES: usize = 4;

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PeerKind {
    /// A client.
    Client = 1,
    /// Another data node.
    Node = 2,
}

/// Why a caller is not welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub enum Refusal {
    /// It belongs to another cluster.
    #[error("the node belongs to another cluster")]
    ForeignCluster = 1,
    /// The two have no version in common.
    #[error("the node speaks no version of the protocol in common")]
    Version = 2,
    /// What it said is no hello.
    #[error("the node did not understand the hello")]
    Malformed = 3,
    /// There are as many connections as may be.
    #[error("the node has as many connections as it takes")]
    Busy = 4,
    /// It means another node, or another process of this one.
    #[error("another node, or another process of it, is there")]
    OtherNode = 5,
    /// The node leaves.
    #[error("the node is stopping")]
    Stopping = 6,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Refusal; 6] = [
        Refusal::ForeignCluster,
        Refusal::Version,
        Refusal::Malformed,
        Refusal::Busy,
        Refusal::OtherNode,
        Refusal::Stopping,
    ];
}

/// Why bytes are no hello or no welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Whoever is there does not speak this protocol at all.
    #[error("whoever is there does not speak frames")]
    Foreign,
    /// It is not what was sent, or holds what this build does not know.
    #[error("the hello is damaged, or holds what is not known here")]
    Malformed,
    /// The caller was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What the caller says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The protocol version that it speaks.
    pub version: u16,
    /// The lowest that it still speaks.
    pub version_min: u16,
    /// Who it is.
    pub kind: PeerKind,
    /// Its cluster.
    pub cluster: ClusterId,
    /// The node that it means to reach; 0 is any.
    pub node: NodeId,
    /// That node's process; 0 is any.
    pub incarnation: Incarnation,
}

impl Hello {
    /// A hello of this build to whatever node is there.
    #[must_use]
    pub fn new(kind: PeerKind, cluster: ClusterId) -> Self {
        let (version, version_min) = (PROTOCOL_VERSION as u16, PROTOCOL_VERSION_MIN as u16);
        Self { version, version_min, kind, cluster, node: NodeId(0), incarnation: Incarnation(0) }
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut out = Vec::with_capacity(HELLO_BYTES);
        out.put_slice(&MAGIC);
        out.put_u16_le(self.version);
        out.put_u16_le(self.version_min);
        out.put_slice(&[self.kind as u8, FRAMING, 0, 0]);
        out.put_slice(&self.cluster.0);
        out.put_u64_le(self.node.0);
        out.put_u64_le(self.incarnation.0);
        closed(&out)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// [`HelloError::Foreign`] and [`HelloError::Malformed`]; [`Refusal::Version`] for a newer framing.
    pub fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<Self, HelloError> {
        let mut rest = opened(bytes)?;
        let (version, version_min) = (rest.get_u16_le(), rest.get_u16_le());
        let (kind, framing, zero) = (rest.get_u8(), rest.get_u8(), rest.get_u16_le());
        if framing != FRAMING {
            return Err(Refusal::Version.into());
        }
        let kind = [PeerKind::Client, PeerKind::Node].into_iter().find(|known| *known as u8 == kind);
        let mut cluster = [0; 16];
        rest.copy_to_slice(&mut cluster);
        let (node, incarnation) = (NodeId(rest.get_u64_le()), Incarnation(rest.get_u64_le()));
        let kind = kind.filter(|_| zero == 0).ok_or(HelloError::Malformed)?;
        Ok(Self { version, version_min, kind, cluster: ClusterId(cluster), node, incarnation })
    }

    /// The version that a node of `cluster` speaks with this caller.
    ///
    /// # Errors
    /// [`Refusal`]: why it speaks none.
    pub fn check(&self, cluster: ClusterId, node: NodeId, incarnation: Incarnation) -> Result<u16, Refusal> {
        let ours = PROTOCOL_VERSION_MIN as u16..=PROTOCOL_VERSION as u16;
        if self.version < *ours.start() || self.version_min > *ours.end() || self.version_min > self.version {
            return Err(Refusal::Version);
        }
        if self.cluster != cluster {
            return Err(Refusal::ForeignCluster);
        }
        let another_node = self.node.0 != 0 && self.node != node;
        let another_process = self.incarnation.0 != 0 && self.incarnation != incarnation;
        if another_node || another_process {
            return Err(Refusal::OtherNode);
        }
        Ok(self.version.min(*ours.end()))
    }
}

/// Who is there, and how else it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The node.
    pub node: NodeId,
    /// Its process.
    pub incarnation: Incarnation,
    /// The boot of its machine; all zero: it cannot be told.
    pub boot_id: [u8; 16],
    /// Its unix socket, for callers on the same machine; empty: none.
    pub socket: PathBuf,
}

/// What the node answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The version that is spoken from here on; in a refusal the node's own.
    pub version: u16,
    /// Who is there, or why nothing comes of it.
    pub offer: Result<Offer, Refusal>,
}

impl Welcome {
    /// Its bytes. A path that is too long for a socket is left out.
    #[must_use]
    pub fn encode(&self) -> [u8; WELCOME_BYTES] {
        use std::os::unix::ffi::OsStrExt;
        let mut out = Vec::with_capacity(WELCOME_BYTES);
        out.put_slice(&MAGIC);
        out.put_u16_le(self.version);
        match &self.offer {
            Ok(offer) => {
                let path = offer.socket.as_os_str().as_bytes();
                let path = if path.len() > SOCKET_BYTES_MAX { &[] } else { path };
                out.put_slice(&[0, path.len() as u8]);
                out.put_u64_le(offer.node.0);
                out.put_u64_le(offer.incarnation.0);
                out.put_slice(&offer.boot_id);
                out.put_slice(path);
            }
            Err(refusal) => out.put_slice(&[*refusal as u8, 0]),
        }
        out.resize(WELCOME_BYTES - CRC_BYTES, 0);
        closed(&out)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// [`HelloError::Foreign`] and [`HelloError::Malformed`].
    pub fn decode(bytes: &[u8; WELCOME_BYTES]) -> Result<Self, HelloError> {
        use std::os::unix::ffi::OsStrExt;
        let mut rest = opened(bytes)?;
        let version = rest.get_u16_le();
        let (refusal, path_bytes) = (rest.get_u8(), usize::from(rest.get_u8()));
        if refusal != 0 {
            let known = Refusal::ALL.into_iter().find(|known| *known as u8 == refusal);
            return Ok(Self { version, offer: Err(known.ok_or(HelloError::Malformed)?) });
        }
        let (node, incarnation) = (NodeId(rest.get_u64_le()), Incarnation(rest.get_u64_le()));
        let mut boot_id = [0; 16];
        rest.copy_to_slice(&mut boot_id);
        let path = rest.get(..path_bytes).filter(|path| path.len() <= SOCKET_BYTES_MAX);
        let path = path.ok_or(HelloError::Malformed)?;
        let socket = PathBuf::from(std::ffi::OsStr::from_bytes(path));
        Ok(Self { version, offer: Ok(Offer { node, incarnation, boot_id, socket }) })
    }
}

/// `fields` with their checksum behind them; they are as many as fit.
fn closed<const BYTES: usize>(fields: &[u8]) -> [u8; BYTES] {
    let mut out = [0; BYTES];
    let (front, crc32c) = out.split_at_mut(BYTES - CRC_BYTES);
    for (to, from) in front.iter_mut().zip(fields) {
        *to = *from;
    }
    crc32c.copy_from_slice(&crc32c::crc32c(front).to_le_bytes());
    out
}

/// The fields behind the magic, once both it and the checksum are right.
fn opened<const BYTES: usize>(bytes: &[u8; BYTES]) -> Result<&[u8], HelloError> {
    let (front, mut crc32c) = bytes.split_at(BYTES - CRC_BYTES);
    let fields = front.strip_prefix(MAGIC.as_slice()).ok_or(HelloError::Foreign)?;
    if crc32c::crc32c(front) == crc32c.get_u32_le() { Ok(fields) } else { Err(HelloError::Malformed) }
}
