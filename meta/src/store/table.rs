//! [`Table`]: the names of the state's tables.

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// A table of the state; each is a column family of the state database.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Table {
            $($(#[$doc])* $name,)*
        }

        impl Table {
            /// Every table.
            pub const ALL: &[Table] = &[$(Table::$name),*];

            /// Its name in the database.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Table::$name => $text,)*
                }
            }
        }
    };
}

tables! {
    /// (parent, name) → inode or reference.
    Nodes => "nodes",
    /// ino → its primary (parent, name).
    Places => "places",
    /// (ino, parent, name) of further hard links.
    Links => "links",
    /// ino → an unlinked inode that is held, or whose rows are not all gone.
    Orphans => "orphans",
    /// (content, file offset) → length and source.
    Extents => "extents",
    /// ino → the contents of a file that was cut.
    Contents => "contents",
    /// content → from where on its extents are no file's.
    Detached => "detached",
    /// chunk → all that is known of it.
    Chunks => "chunks",
    /// (queue, order, chunk): the chunks that wait for something.
    Queues => "queues",
    /// (session, chunk): the shared chunks that a session holds.
    Held => "held",
    /// pack → its object in S3.
    Packs => "packs",
    /// mount → what it is bound to.
    Mounts => "mounts",
    /// (mount, key) → the file of an object.
    Keys => "keys",
    /// directory → when it was read from S3.
    Imports => "imports",
    /// disk → its data node.
    Disks => "disks",
    /// disk → its data node, which will never return.
    Removed => "removed",
    /// session → its state.
    Sessions => "sessions",
    /// (session, sequence) → kept reply.
    Replies => "replies",
    /// (ino, writer) → the writer's last decided mark.
    Writers => "writers",
    /// (writer, ino): the files that a writer writes.
    Writing => "writing",
    /// intent → work to be done outside.
    Intents => "intents",
    /// (log index, number within the entry) → a change, for watchers.
    Events => "events",
    /// The cluster's record (identity, time, next ids, counts), and three more counters.
    Counters => "counters",
    /// Of the Raft layer: last applied entry, membership.
    Meta => "meta",
    /// (ino, name) → an extended attribute's value; (ino, "") → what they come to.
    Xattrs => "xattrs",
    /// session → who it is, where its requests are checked.
    Credentials => "credentials",
    /// (ino, kind, first byte, session, owner) → a lock.
    Locks => "locks",
    /// (ino, kind, wait) → a lock that is waited for.
    LockWaits => "lock_waits",
    /// session → how many locks it has, and which.
    Lockers => "lockers",
    /// ino → a directory that was removed with all below it.
    Trees => "trees",
    /// (ino, place in the stack) → a directory of a removed tree that is being emptied.
    Branches => "branches",
    /// session → up to where it has denied to hold unlinked files.
    Denials => "denials",
    /// Who has denied up to where, what is undecided, who holds what.
    Holds => "holds",
    /// open tail → the chunk that was made ahead to follow it.
    Spares => "spares",
    /// mount → how it is written to, what its endpoint can do.
    MountModes => "mount_modes",
    /// mount → how much there is of it.
    MountCounts => "mount_counts",
    /// ino → the key of the object that holds its bytes.
    Homes => "homes",
    /// (mount, ino) → what of it the bucket does not hold as it is to.
    Pending => "pending",
    /// (mount, time, ino): pending inodes by age.
    PendingSince => "pending_since",
    /// (mount, key) → an object to be deleted.
    Surplus => "surplus",
    /// (mount, prefix) → the directory that left it.
    Moves => "moves",
    /// (mount, key) → the intent that uses it.
    Claims => "claims",
    /// (mount, prefix, import): which prefixes are being read.
    Readings => "readings",
    /// (import, key): what it is to pass over.
    Shields => "shields",
    /// intent → what it writes.
    Pictures => "pictures",
    /// ino → bytes that a picture names and the file does not.
    Keeps => "keeps",
    /// (mount, number) → what somebody else changed under our hands.
    Conflicts => "conflicts",
}
