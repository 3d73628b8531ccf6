//! [`Appender`]: a writer at the end of one file.

use bytes::Bytes;
use cairn_proto::v1::OpenExclusive;
use cairn_proto::v1::mutate_request::Operation;
use cairn_types::limits::APPEND_BYTES_MAX;
use cairn_types::{FsError, Generation, InodeId, Persist};

use crate::answer::regular;
use crate::client::Client;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::growth::{Growth, Source, Ticket};
use crate::open_files::OpenFile;
use crate::read::View;
use crate::target::At;

/// The mode of a file that `open_append` makes.
const MODE_NEW: u32 = 0o644;

/// A writer at the end of one file.
///
/// Appends are atomic records of 1 byte to 1 MiB. Retries, dead nodes and new chunks are
/// handled inside: an append answers with its offset, or says that its outcome is unknown.
///
/// A file that others unlink, alone or with its tree, stays for as long as this handle is there and the
/// session lives.
pub struct Appender {
    client: Client,
    ino: InodeId,
    growth: Growth,
    generation: Generation,
    end: Option<u64>,
    /// Says that the file is open, and when the handle goes that it is not.
    _open: OpenFile,
}

/// An append under way.
pub struct Acknowledgement(Ticket);

impl Acknowledgement {
    /// Waits until the record is durable as [`Appender::append`] says, and answers its offset.
    ///
    /// # Errors
    /// Those of [`Appender::append`].
    pub async fn offset(self) -> Result<u64> {
        self.0.placed().await.map(|p| p.file_offset)
    }
}

impl std::fmt::Debug for Acknowledgement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acknowledgement")
    }
}

impl Appender {
    pub(crate) async fn shared(client: Client, at: At) -> Result<Self> {
        let (inode, open) = client.make_open("open for appending", &at, MODE_NEW, (false, false)).await?;
        regular("open for appending", &at.to_string(), &inode)?;
        Self::start(client, open, (inode.ino, inode.generation), None)
    }

    pub(crate) async fn exclusive(client: Client, at: At) -> Result<Self> {
        let (inode, open) = client.make_open("open exclusively", &at, MODE_NEW, (false, false)).await?;
        let subject = at.to_string();
        let operation = Operation::OpenExclusive(OpenExclusive { ino: inode.ino.0 });
        let reply = client.reach().session.change("open exclusively", &subject, &operation).await?;
        let malformed = || Error::new("open exclusively", &at, Cause::MalformedAnswer("generation"));
        let generation = Generation(reply.generation.ok_or_else(malformed)?);
        if let Some(tail) = reply.chunk {
            client.seal(cairn_types::ChunkId(tail.chunk), "a new exclusive writer").await?;
        }
        // The end is decided now; a later exclusive writer shows as a newer generation.
        let target = At::Inode(inode.ino).wire("open exclusively", true)?;
        let view = View::load(&client, &target, &subject).await?;
        if view.inode.generation != generation {
            let fenced = FsError::Fenced {
                generation: view.inode.generation,
                last_sequence: cairn_types::Sequence(0),
            };
            return Err(Error::new("open exclusively", &at, fenced));
        }
        Self::start(client, open, (inode.ino, generation), Some(view.length()))
    }

    fn start(
        client: Client,
        open: OpenFile,
        (ino, generation): (InodeId, Generation),
        end: Option<u64>,
    ) -> Result<Self> {
        let growth = Growth::start(client.reach().clone(), Source::Tail { ino, generation }, None)?;
        Ok(Self { client, ino, growth, generation, end, _open: open })
    }

    /// The file.
    #[must_use]
    pub fn ino(&self) -> InodeId {
        self.ino
    }

    /// The writer generation of this handle.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// For a handle of `open_exclusive`: the end of all bytes acknowledged before it.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        self.end
    }

    /// Appends one record of 1 byte to 1 MiB and answers the file offset of its first byte.
    ///
    /// When this returns the record is on every replica of its chunk (at least
    /// `min_replicas`), by `fdatasync` unless the policy's ack is `memory`; it is in S3 within
    /// the policy's lag.
    ///
    /// # Errors
    /// `Fenced` when a newer exclusive writer owns the file; `Unavailable` when too few data
    /// nodes are alive or S3 is too far behind: append again later; `Unknown` when its fate could
    /// not be had in time or the session was lost meanwhile: the handle has failed, and says why
    /// at every later append ([`Cause::Poisoned`]).
    pub async fn append(&self, record: impl Into<Bytes>) -> Result<u64> {
        self.submit(record).await?.offset().await
    }

    /// Hands one record over without waiting for it, so that many can be under way.
    /// Records land in the order in which they were submitted. Nothing is durable before the
    /// [`Acknowledgement`] says so. Waits while
    /// [`in_flight_bytes_max`](crate::ConnectOptions::in_flight_bytes_max) are under way; dropped while it
    /// waits, it has handed nothing over.
    ///
    /// # Errors
    /// `Invalid` for an empty record or one over 1 MiB.
    pub async fn submit(&self, record: impl Into<Bytes>) -> Result<Acknowledgement> {
        self.hand_over(record.into(), None).await.map(Acknowledgement)
    }

    /// Appends one record only if the file ends at `expected` exactly. Durable as
    /// [`append`](Self::append).
    ///
    /// # Errors
    /// `LengthMismatch` with the actual length when the file has grown: nothing was appended.
    pub async fn append_at(&self, expected: u64, record: impl Into<Bytes>) -> Result<u64> {
        self.submit_at(expected, record).await?.offset().await
    }

    /// As [`append_at`](Self::append_at), without waiting for it. It takes its turn among the records that
    /// were submitted, and is sent alone: when those before it are acknowledged, and those after it when
    /// its own outcome is known.
    ///
    /// # Errors
    /// Those of [`submit`](Self::submit).
    pub async fn submit_at(&self, expected: u64, record: impl Into<Bytes>) -> Result<Acknowledgement> {
        self.hand_over(record.into(), Some(expected)).await.map(Acknowledgement)
    }

    async fn hand_over(&self, record: Bytes, expected: Option<u64>) -> Result<Ticket> {
        if record.is_empty() || record.len() > APPEND_BYTES_MAX {
            let error = Error::new("append", format!("{} bytes", record.len()), FsError::InvalidRequest);
            return Err(error.with_kind(ErrorKind::Invalid));
        }
        if self.client.reach().session.is_closed() {
            return Err(Error::new("append", self.ino, Cause::Closed));
        }
        self.growth.submit(record, expected).await
    }

    /// Closes the handle: the chunk is closed and its length recorded. When this returns the
    /// length is on a majority of the metadata servers; with `persist = sync` every byte is in S3
    /// too.
    ///
    /// # Errors
    /// What an earlier append met, or why the chunk's end or S3's answer could not be had in
    /// time. Whatever was acknowledged stays: the servers close the chunk and write it through.
    pub async fn close(self) -> Result<()> {
        self.growth.roll().await?;
        match self.client.policy(self.ino).await {
            Ok(policy) if policy.persist == Persist::Sync => self.client.sync(self.ino).await,
            Ok(_) => Ok(()),
            // A file that was removed has nothing that must reach S3.
            Err(error) if matches!(error.fs(), Some(FsError::Stale | FsError::NotFound)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits until every byte of the file that is acknowledged now is in S3 and recorded there.
    /// See [`Client::sync`].
    ///
    /// # Errors
    /// Those of [`Client::sync`].
    pub async fn sync_durable(&self) -> Result<()> {
        self.client.sync(self.ino).await
    }
}

impl std::fmt::Debug for Appender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Appender")
            .field("ino", &self.ino)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}
