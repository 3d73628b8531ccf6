//! The stable name of each kind of finding, its fields by name, and whether it is mended.

use cairn_types::{ChunkId, InodeId, IntentId, MountId, NodeId, PackId, SessionId, Timestamp, WriterId};

use super::Finding;
use super::counter::Counter;
use super::finding::lossy;
use crate::keys::contents::ContentId;

/// A field of a finding as text, for tables and JSON.
trait Shown {
    fn shown(&self) -> String;
}

macro_rules! shown_number {
    ($($type:ty),*) => { $(impl Shown for $type {
        fn shown(&self) -> String { self.0.to_string() }
    })* };
}

shown_number!(ChunkId, InodeId, IntentId, MountId, NodeId, PackId, SessionId, WriterId, Timestamp, ContentId);

macro_rules! shown_as_is {
    ($($type:ty),*) => { $(impl Shown for $type {
        fn shown(&self) -> String { self.to_string() }
    })* };
}

shown_as_is!(u8, u32, u64, bool, String, Counter);

impl Shown for Vec<u8> {
    fn shown(&self) -> String {
        lossy(self)
    }
}

impl Shown for Vec<ChunkId> {
    fn shown(&self) -> String {
        self.iter().map(|chunk| chunk.0.to_string()).collect::<Vec<_>>().join(" ")
    }
}

macro_rules! described {
    ($($mend:ident $name:ident $kind:literal ($($field:ident),*);)*) => {
        impl Finding {
            /// The names of all kinds.
            pub const KINDS: &[&str] = &[$($kind),*];

            /// Its kind's stable name.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$name { .. } => $kind,)* }
            }

            /// Its fields by name.
            #[must_use]
            pub fn fields(&self) -> Vec<(&'static str, String)> {
                match self { $(Self::$name { $($field),* } => vec![$((stringify!($field), $field.shown())),*],)* }
            }

            pub(super) fn kind_is_mended(&self) -> bool {
                match self { $(Self::$name { .. } => $mend(),)* }
            }
        }
    };
}

const fn mended() -> bool {
    true
}

const fn left() -> bool {
    false
}

described! {
    left Undecodable "undecodable" (table, key);
    left NoRoot "no_root" ();
    mended NoPlace "no_place" (ino, parent, name);
    left TwoPrimaries "two_primaries" (ino, parent, name);
    mended DanglingPlace "dangling_place" (ino, parent, name);
    mended DanglingName "dangling_name" (ino, parent, name);
    mended UnlistedLink "unlisted_link" (ino, parent, name);
    mended StrayLink "stray_link" (ino, parent, name);
    mended LinkCount "link_count" (ino, version, recorded, counted);
    mended LostDirectory "lost_directory" (ino, subdirectories);
    left NoDirectory "no_directory" (parent);
    mended Cycle "cycle" (ino);
    mended NamedOrphan "named_orphan" (ino);
    mended LostFile "lost_file" (ino);
    mended LostContent "lost_content" (content);
    left NoFile "no_file" (ino);
    left BadExtent "bad_extent" (content, offset);
    mended BeyondSize "beyond_size" (ino, size, end);
    left OutsidePart "outside_part" (ino, content, offset);
    left NoChunk "no_chunk" (content, offset, chunk);
    mended BeyondExtentEnd "beyond_extent_end" (chunk, recorded, end);
    left BeyondSeal "beyond_seal" (content, offset, chunk, known);
    left NoMount "no_mount" (ino, mount);
    left BadParts "bad_parts" (ino);
    mended LiveBytes "live_bytes" (chunk, recorded, counted, settled);
    left SealedUndecided "sealed_undecided" (chunk);
    left HolderNotReplica "holder_not_replica" (chunk, node);
    left NobodyHolds "nobody_holds" (chunk);
    left NamesRemoved "names_removed" (chunk, node);
    left WrongTail "wrong_tail" (ino, chunk);
    mended MissingQueueRow "missing_queue_row" (queue, order, id);
    mended StrayQueueRow "stray_queue_row" (queue, order, id);
    mended MissingHeld "missing_held" (session, chunk);
    mended StrayHeld "stray_held" (session, chunk);
    mended HeldForNobody "held_for_nobody" (session, chunk);
    left NoPack "no_pack" (chunk, pack);
    mended PackCounts "pack_counts" (pack, recorded_chunks, recorded_bytes, counted_chunks, counted_bytes, chunks);
    mended UploadGone "upload_gone" (chunk, intent);
    mended DeletionGone "deletion_gone" (pack, intent);
    mended StrayIntent "stray_intent" (intent);
    mended StrayKey "stray_key" (mount, key, ino);
    left MissingKey "missing_key" (ino);
    mended StrayImport "stray_import" (ino);
    left MissingImport "missing_import" (ino);
    left NoMountRoot "no_mount_root" (mount, ino);
    mended ReplyCount "reply_count" (session, recorded, counted);
    mended StrayReplies "stray_replies" (session);
    mended StrayWriter "stray_writer" (ino, writer);
    mended UnlistedWriter "unlisted_writer" (ino, writer);
    mended StrayWriting "stray_writing" (ino, writer);
    mended WrongCount "wrong_count" (counter, recorded, counted);
    mended NextId "next_id" (counter, next, used);
    mended ForgottenOrphan "forgotten_orphan" (ino);
    mended WrongDenial "wrong_denial" (session);
    mended StrayHold "stray_hold" (key);
    mended StraySpare "stray_spare" (tail);
    mended LostSpare "lost_spare" (chunk);
}
