//! [`Finding`]: what a check found wrong, with the ids that it concerns and a sentence for people.

use bincode::{Decode, Encode};
use cairn_types::{ChunkId, InodeId, IntentId, MountId, NodeId, PackId, SessionId, Timestamp, WriterId};

use super::counter::Counter;
use crate::keys::contents::ContentId;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It follows from a decision that an operator made. The state is sound.
    Known,
    /// Rows contradict each other.
    Damage,
}

/// Bytes of a name or key for people: what is no UTF-8, and control characters, escaped.
pub(super) fn lossy(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// What is wrong. New kinds are appended: the log carries them.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Finding {
    /// A row's bytes are no such record.
    #[error("a row of {table} cannot be read (key {})", lossy(.key))]
    Undecodable {
        /// The table.
        table: String,
        /// The row's key.
        key: Vec<u8>,
    },
    /// The root directory is not where it must be.
    #[error("there is no root directory")]
    NoRoot {},
    /// An inode at a name, which `places` does not know there or anywhere.
    #[error("{ino} is at '{}' in {parent}, and its place does not say so", lossy(.name))]
    NoPlace {
        /// The inode.
        ino: InodeId,
        /// The directory.
        parent: InodeId,
        /// The name.
        name: Vec<u8>,
    },
    /// An inode's row lies at two names.
    #[error("{ino} is at '{}' in {parent} and, as its place says, elsewhere too", lossy(.name))]
    TwoPrimaries {
        /// The inode.
        ino: InodeId,
        /// The directory.
        parent: InodeId,
        /// The name.
        name: Vec<u8>,
    },
    /// A place where the inode is not.
    #[error("the place of {ino} is '{}' in {parent}, and it is not there", lossy(.name))]
    DanglingPlace {
        /// The inode.
        ino: InodeId,
        /// The directory.
        parent: InodeId,
        /// The name.
        name: Vec<u8>,
    },
    /// A hard link to an inode that is gone.
    #[error("the hard link '{}' in {parent} leads to {ino}, which is gone", lossy(.name))]
    DanglingName {
        /// The inode.
        ino: InodeId,
        /// The directory.
        parent: InodeId,
        /// The name.
        name: Vec<u8>,
    },
    /// A hard link that `links` does not list.
    #[error("the hard link '{}' in {parent} is not listed among those of {ino}", lossy(.name))]
    UnlistedLink {
        /// The inode.
        ino: InodeId,
        /// The directory.
        parent: InodeId,
        /// The name.
        name: Vec<u8>,
    },
    /// A row of `links` without its name.
    #[error("'{}' in {parent} is listed as a hard link of {ino} and is none", lossy(.name))]
    StrayLink {
        /// The inode.
        ino: InodeId,
        /// The directory.
        parent: InodeId,
        /// The name.
        name: Vec<u8>,
    },
    /// The link count is not the names, or the subdirectories.
    #[error("{ino} counts {recorded} links and has {counted}")]
    LinkCount {
        /// The inode.
        ino: InodeId,
        /// Its version when it was counted.
        version: u64,
        /// What it says.
        recorded: u32,
        /// What there are.
        counted: u32,
    },
    /// Names in a directory that is gone: a subtree that no path reaches.
    #[error("names are left in the directory {ino}, which is gone")]
    LostDirectory {
        /// The directory.
        ino: InodeId,
        /// Directories in it.
        subdirectories: u32,
    },
    /// Names in what is no directory.
    #[error("there are names in {parent}, which is no directory")]
    NoDirectory {
        /// What they are in.
        parent: InodeId,
    },
    /// A directory that lies within itself: no path reaches it.
    #[error("the directory {ino} lies within itself")]
    Cycle {
        /// The least directory of the ring.
        ino: InodeId,
    },
    /// An unlinked inode that has a place: its removal would take a file's rows.
    #[error("{ino} waits for its removal and has a name")]
    NamedOrphan {
        /// The inode.
        ino: InodeId,
    },
    /// Content of a file that is gone.
    #[error("content of {ino} is left, which is gone")]
    LostFile {
        /// The file.
        ino: InodeId,
    },
    /// Content of which no file says that it is its own.
    #[error("no file has the content {content}")]
    LostContent {
        /// The content.
        content: ContentId,
    },
    /// Content of what is no file.
    #[error("{ino} has content and is no file")]
    NoFile {
        /// The inode.
        ino: InodeId,
    },
    /// An extent that is empty, ends beyond any file, or overlaps the one before.
    #[error("the extent at byte {offset} of {content} is empty, too long, or overlaps another")]
    BadExtent {
        /// The content.
        content: ContentId,
        /// The extent's first byte.
        offset: u64,
    },
    /// Extents beyond the end of their file.
    #[error("{ino} has {size} bytes, and extents up to {end}")]
    BeyondSize {
        /// The file.
        ino: InodeId,
        /// Its size.
        size: u64,
        /// The extents' end.
        end: u64,
    },
    /// An extent outside the part of its file that the content stands for.
    #[error("the extent at byte {offset} of {content} lies outside the part of {ino} that it is")]
    OutsidePart {
        /// The file.
        ino: InodeId,
        /// The content.
        content: ContentId,
        /// The extent's first byte.
        offset: u64,
    },
    /// An extent of a chunk that is gone: its bytes are lost.
    #[error("the extent at byte {offset} of {content} points at {chunk}, which is gone")]
    NoChunk {
        /// The content.
        content: ContentId,
        /// The extent's first byte.
        offset: u64,
        /// The chunk.
        chunk: ChunkId,
    },
    /// An extent beyond what its chunk knows of.
    #[error("{chunk} knows of extents up to byte {recorded}, and one ends at {end}")]
    BeyondExtentEnd {
        /// The chunk.
        chunk: ChunkId,
        /// What it says.
        recorded: u64,
        /// The extent's end in it.
        end: u64,
    },
    /// An extent beyond the sealed end of its chunk: those bytes are lost.
    #[error("the extent at byte {offset} of {content} points beyond the end of {chunk}")]
    BeyondSeal {
        /// The content.
        content: ContentId,
        /// The extent's first byte.
        offset: u64,
        /// The chunk.
        chunk: ChunkId,
        /// A seal is known to have found such extents: an operator accepted a loss.
        known: bool,
    },
    /// An inode, or an object that it points at, of a mount that is gone.
    #[error("{ino} belongs to {mount}, which is gone")]
    NoMount {
        /// The inode.
        ino: InodeId,
        /// The mount.
        mount: MountId,
    },
    /// The parts of a file that was cut contradict each other.
    #[error("the parts of {ino} contradict each other")]
    BadParts {
        /// The file.
        ino: InodeId,
    },
    /// A chunk's live bytes are not the sum of its extents.
    #[error("{chunk} counts {recorded} live bytes, and extents point at {counted}")]
    LiveBytes {
        /// The chunk.
        chunk: ChunkId,
        /// What it says.
        recorded: u64,
        /// What there are.
        counted: u64,
        /// It is sealed and nobody may commit more of it: only then it can be mended.
        settled: bool,
    },
    /// A sealed chunk without what its seal decided.
    #[error("{chunk} is sealed, and nothing says at which length")]
    SealedUndecided {
        /// The chunk.
        chunk: ChunkId,
    },
    /// A holder that is no replica.
    #[error("{node} holds {chunk} and is none of its replicas")]
    HolderNotReplica {
        /// The chunk.
        chunk: ChunkId,
        /// The node.
        node: NodeId,
    },
    /// Live bytes that no node holds and that are not in S3.
    #[error("nobody holds {chunk}, which files point at")]
    NobodyHolds {
        /// The chunk.
        chunk: ChunkId,
    },
    /// A chunk names a node that was removed and had left.
    #[error("{chunk} names {node}, which was removed")]
    NamesRemoved {
        /// The chunk.
        chunk: ChunkId,
        /// The node.
        node: NodeId,
    },
    /// A file and its tail contradict each other.
    #[error("{ino} and its tail {chunk} contradict each other")]
    WrongTail {
        /// The file.
        ino: InodeId,
        /// The tail.
        chunk: ChunkId,
    },
    /// A chunk or pack waits for something that the queue does not know.
    #[error("{id} is not in the queue {queue} where it belongs")]
    MissingQueueRow {
        /// The queue's number in docs/FORMAT.md.
        queue: u8,
        /// Its place there.
        order: Timestamp,
        /// The chunk or pack.
        id: u64,
    },
    /// A queue has what does not wait.
    #[error("{id} is in the queue {queue} and does not belong there")]
    StrayQueueRow {
        /// The queue's number in docs/FORMAT.md.
        queue: u8,
        /// Its place there.
        order: Timestamp,
        /// The chunk or pack.
        id: u64,
    },
    /// A held chunk that its session does not list.
    #[error("{chunk} is held by {session}, which does not list it")]
    MissingHeld {
        /// The session.
        session: SessionId,
        /// The chunk.
        chunk: ChunkId,
    },
    /// A session lists a chunk that it does not hold.
    #[error("{session} lists {chunk} as held, and it is not")]
    StrayHeld {
        /// The session.
        session: SessionId,
        /// The chunk.
        chunk: ChunkId,
    },
    /// A chunk held for a session that is gone: it would never be collected.
    #[error("{chunk} is held for {session}, which is gone")]
    HeldForNobody {
        /// The session.
        session: SessionId,
        /// The chunk.
        chunk: ChunkId,
    },
    /// A live chunk in a pack that is gone.
    #[error("{chunk} is in {pack}, which is gone")]
    NoPack {
        /// The chunk.
        chunk: ChunkId,
        /// The pack.
        pack: PackId,
    },
    /// A pack's live chunks or bytes are not those of its chunks.
    #[error(
        "{pack} counts {recorded_chunks} live chunks of {recorded_bytes} bytes, and has {counted_chunks} of {counted_bytes}"
    )]
    PackCounts {
        /// The pack.
        pack: PackId,
        /// The chunks that it says.
        recorded_chunks: u32,
        /// The bytes that it says.
        recorded_bytes: u64,
        /// The chunks that there are.
        counted_chunks: u32,
        /// The bytes that there are.
        counted_bytes: u64,
        /// All chunks that are placed in it, dead ones too.
        chunks: Vec<ChunkId>,
    },
    /// A chunk waits for an upload that is over.
    #[error("{chunk} waits for the upload {intent}, which is gone")]
    UploadGone {
        /// The chunk.
        chunk: ChunkId,
        /// The intent.
        intent: IntentId,
    },
    /// A pack waits for a deletion that is over.
    #[error("{pack} waits for its deletion {intent}, which is gone")]
    DeletionGone {
        /// The pack.
        pack: PackId,
        /// The intent.
        intent: IntentId,
    },
    /// An intent that what it is about does not name.
    #[error("{intent} is about something that does not wait for it")]
    StrayIntent {
        /// The intent.
        intent: IntentId,
    },
    /// The row of an object whose file is gone, or another's.
    #[error("the object '{}' of {mount} is said to be {ino}, which it is not", lossy(.key))]
    StrayKey {
        /// The mount.
        mount: MountId,
        /// The key.
        key: Vec<u8>,
        /// The file.
        ino: InodeId,
    },
    /// A file of a mount whose object has no row.
    #[error("the object of {ino} is not known")]
    MissingKey {
        /// The file.
        ino: InodeId,
    },
    /// An import of what is no directory of its mount.
    #[error("an import of {ino} is left, which is no directory of that mount")]
    StrayImport {
        /// What was the directory.
        ino: InodeId,
    },
    /// A directory of a mount that is not known as one.
    #[error("of the mount's directory {ino} it is not known what it stands for")]
    MissingImport {
        /// The directory.
        ino: InodeId,
    },
    /// A mount whose root is gone.
    #[error("the root of {mount}, {ino}, is gone or another's")]
    NoMountRoot {
        /// The mount.
        mount: MountId,
        /// Its root.
        ino: InodeId,
    },
    /// A session's kept replies are not as many as it says, or acknowledged ones are left.
    #[error("{session} counts {recorded} kept replies, and has {counted}")]
    ReplyCount {
        /// The session.
        session: SessionId,
        /// What it says.
        recorded: u32,
        /// What there are.
        counted: u32,
    },
    /// Replies of a session that is gone.
    #[error("replies of {session} are left, which is gone")]
    StrayReplies {
        /// The session.
        session: SessionId,
    },
    /// A writer of a file, or of a session, that is gone.
    #[error("{writer} of {ino} is left, whose file or session is gone")]
    StrayWriter {
        /// The file.
        ino: InodeId,
        /// The writer.
        writer: WriterId,
    },
    /// A writer that its session does not list.
    #[error("{writer} of {ino} is not listed with its session")]
    UnlistedWriter {
        /// The file.
        ino: InodeId,
        /// The writer.
        writer: WriterId,
    },
    /// A session lists a writer that is none.
    #[error("{writer} is listed as a writer of {ino}, and is none")]
    StrayWriting {
        /// The file.
        ino: InodeId,
        /// The writer.
        writer: WriterId,
    },
    /// One of the counts that are kept is wrong.
    #[error("the count of {counter} is {recorded}, and there are {counted}")]
    WrongCount {
        /// Of what.
        counter: Counter,
        /// What it says.
        recorded: u64,
        /// What there are.
        counted: u64,
    },
    /// An id in use would be given again.
    #[error("the next id of {counter} is {next}, and {used} is in use")]
    NextId {
        /// Of what.
        counter: Counter,
        /// What would be given.
        next: u64,
        /// The greatest in use.
        used: u64,
    },
    /// An unlinked file that nobody holds, and that is not to be decided on either: it would stay.
    #[error("{ino} is unlinked, nobody is known to hold it, and it waits for no decision")]
    ForgottenOrphan {
        /// The file.
        ino: InodeId,
    },
    /// What a session denied is not what the other rows say, or there is no such session.
    #[error("what {session} has said of unlinked files does not fit")]
    WrongDenial {
        /// The session.
        session: SessionId,
    },
    /// A row about who holds an unlinked file that no other row bears out.
    #[error("a row of holders says what no other row does (key {})", lossy(.key))]
    StrayHold {
        /// The row's key.
        key: Vec<u8>,
    },
    /// The spare of what is no open tail.
    #[error("{tail} has a spare, and is no open tail")]
    StraySpare {
        /// What it would follow.
        tail: ChunkId,
    },
    /// A chunk made ahead that is to follow no tail: it would never be collected.
    #[error("{chunk} is a spare, and follows no tail")]
    LostSpare {
        /// The chunk.
        chunk: ChunkId,
    },
}

impl Finding {
    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::BeyondSeal { known: true, .. } => Severity::Known,
            _ => Severity::Damage,
        }
    }

    /// True when `Command::Repair` can mend it. What the state has become meanwhile may still refuse.
    #[must_use]
    pub fn is_repairable(&self) -> bool {
        match self {
            Self::LiveBytes { settled, .. } => *settled,
            // It would be deleted from S3, and a chunk's lost record may be what makes it look dead.
            Self::PackCounts { counted_chunks, .. } => *counted_chunks > 0,
            _ => self.kind_is_mended(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number that the log carries, after the format byte.
    fn number(finding: &Finding) -> usize {
        usize::from(cairn_types::codec::encode(1, finding)[1])
    }

    #[test]
    fn kinds_have_the_names_and_numbers_that_they_had() {
        let (ino, chunk) = (InodeId(7), ChunkId(9));
        let name = b"n\xff".to_vec();
        let place = Finding::DanglingPlace { ino, parent: InodeId::ROOT, name };
        let held = Finding::StrayHeld { session: SessionId(1), chunk };
        let next = Finding::NextId { counter: Counter::Packs, next: 1, used: 2 };
        let known = Finding::BeyondSeal { content: ino.into(), offset: 0, chunk, known: true };
        for (finding, wanted, kind) in [
            (Finding::NoRoot {}, 1, "no_root"),
            (place.clone(), 4, "dangling_place"),
            (Finding::Cycle { ino }, 11, "cycle"),
            (known.clone(), 21, "beyond_seal"),
            (held, 33, "stray_held"),
            (Finding::StrayImport { ino }, 42, "stray_import"),
            (next, 51, "next_id"),
            (Finding::StrayHold { key: vec![1] }, 54, "stray_hold"),
            (Finding::LostSpare { chunk }, 56, "lost_spare"),
        ] {
            assert_eq!((number(&finding), finding.kind()), (wanted, kind), "{finding:?}");
            assert_eq!(Finding::KINDS.get(wanted), Some(&kind));
        }
        assert_eq!(Finding::KINDS.len(), 57);
        assert_eq!(place.to_string(), "the place of ino-7 is 'n\\xff' in ino-1, and it is not there");
        let fields = [("ino", "7"), ("parent", "1"), ("name", "n\\xff")].map(|(n, v)| (n, v.to_owned()));
        assert_eq!(place.fields(), fields);
        assert_eq!((known.severity(), place.severity()), (Severity::Known, Severity::Damage));
        assert!(place.is_repairable() && !known.is_repairable());
    }
}
