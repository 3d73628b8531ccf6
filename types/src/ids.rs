//! One newtype for every id, so that an id of one thing never passes for another's.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

macro_rules! integer_id {
    ($(#[$doc:meta])* $name:ident, $int:ty, $prefix:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            Encode, Decode, Serialize, Deserialize,
        )]
        pub struct $name(pub $int);

        impl $name {
            /// The id that follows this one; saturates at the type's end.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl From<$int> for $name {
            fn from(value: $int) -> Self {
                Self(value)
            }
        }
    };
}

integer_id!(
    /// A metadata group: one Raft group that owns a part of the namespace.
    GroupId, u16, "group-"
);
integer_id!(
    /// An inode. The top 16 bits hold its [`GroupId`]; inode 1 is the root.
    InodeId, u64, "ino-"
);
integer_id!(
    /// A chunk: an append-only run of bytes of at most 64 MiB.
    ChunkId, u64, "chunk-"
);
integer_id!(
    /// A server (metadata server or data node). Never reused.
    NodeId, u64, "node-"
);
integer_id!(
    /// A client session, within which retried requests are applied once.
    SessionId, u64, "session-"
);
integer_id!(
    /// A request's number in its session, or an append's number at its writer. Starts at 1.
    Sequence, u64, "seq-"
);
integer_id!(
    /// A writer of one file's tail. Unique in the cluster's life.
    WriterId, u64, "writer-"
);
integer_id!(
    /// An index of the Raft log.
    LogIndex, u64, "log-"
);
integer_id!(
    /// A chunk's fence epoch: 1 when opened, raised by each seal round.
    Epoch, u32, "epoch-"
);
integer_id!(
    /// An inode's writer generation, raised by `open_exclusive`.
    Generation, u64, "gen-"
);
integer_id!(
    /// A process incarnation of a data node: a new one at every start.
    Incarnation, u64, "inc-"
);
integer_id!(
    /// A pack: an S3 object of the native area that holds sealed chunks.
    PackId, u64, "pack-"
);
integer_id!(
    /// A mount: a path bound to a bucket and prefix.
    MountId, u32, "mount-"
);
integer_id!(
    /// An intent: a durable record of work outside the state machine.
    IntentId, u64, "intent-"
);

impl InodeId {
    /// The root directory.
    pub const ROOT: InodeId = InodeId(1);

    /// The group that owns this inode.
    #[must_use]
    pub fn group(self) -> GroupId {
        GroupId((self.0 >> 48) as u16)
    }
}

/// Handles that one session may open for appending in its life.
const WRITERS_PER_SESSION: u64 = 1 << 20;

impl WriterId {
    /// The `number`-th writer of `session`; both bounded so that no two writers share an id.
    #[must_use]
    pub fn of(session: SessionId, number: u64) -> Option<Self> {
        let in_range = number < WRITERS_PER_SESSION && session.0 < u64::MAX / WRITERS_PER_SESSION;
        in_range.then_some(Self(session.0 * WRITERS_PER_SESSION + number))
    }

    /// The session this writer belongs to.
    #[must_use]
    pub fn session(self) -> SessionId {
        SessionId(self.0 / WRITERS_PER_SESSION)
    }
}

macro_rules! wide_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
            Encode, Decode, Serialize, Deserialize,
        )]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// The id held by `bytes`, or `None` unless they are exactly 16.
            #[must_use]
            pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// True for the all-zero id, which no cluster or disk ever has.
            #[must_use]
            pub fn is_nil(&self) -> bool {
                self.0 == [0; 16]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                if text.len() != 32 || !text.is_ascii() {
                    return Err(ParseIdError);
                }
                let mut bytes = [0u8; 16];
                for (i, byte) in bytes.iter_mut().enumerate() {
                    *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16)
                        .map_err(|_| ParseIdError)?;
                }
                Ok(Self(bytes))
            }
        }
    };
}

wide_id!(
    /// A cluster's identity, made at its first start and checked in every handshake.
    ClusterId
);
wide_id!(
    /// A disk's identity, made when it is formatted (append protocol R7).
    DiskId
);

/// The text is not 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is written as 32 hexadecimal digits")]
pub struct ParseIdError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_ids_round_trip_as_text() {
        let id = ClusterId([0xab; 16]);
        assert_eq!(id.to_string().parse::<ClusterId>(), Ok(id));
        assert_eq!("xyz".parse::<ClusterId>(), Err(ParseIdError));
    }

    #[test]
    fn a_writer_knows_its_session() {
        let writer = WriterId::of(SessionId(9), 5).map(WriterId::session);
        assert_eq!(writer, Some(SessionId(9)));
        assert_eq!(WriterId::of(SessionId(9), 1 << 20), None);
    }

    #[test]
    fn the_group_is_the_top_of_an_inode_id() {
        assert_eq!(InodeId((7 << 48) | 5).group(), GroupId(7));
        assert_eq!(InodeId::ROOT.group(), GroupId(0));
    }
}
