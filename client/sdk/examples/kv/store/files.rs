//! The files of a store, and who owns them.
//!
//! `current` says which log and which checkpoint count, and who the owner is: a number, the *epoch*, greater for
//! each one. An owner changes `current` only on the condition that it is as it made it, so whoever opens the
//! store takes that from the one before. The names of an owner's files have its epoch: no other owner ever
//! touches them before `current` names them.

use cairn_sdk::types::{FsError, Inode};
use cairn_sdk::{Client, ErrorKind, ListingOptions};

use super::StoreError;
use super::record::{self, Batch, Change};

/// Bytes of changes in one frame of a checkpoint, about.
const FRAME_BYTES: usize = 256 << 10;
const MODE: u32 = 0o600;

/// What `current` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// The owner.
    pub epoch: u64,
    /// The name of the log.
    pub log: String,
    /// The name of the checkpoint that the log begins after; empty for none.
    pub checkpoint: String,
}

impl Current {
    fn encode(&self) -> String {
        format!("{}\n{}\n{}\n", self.epoch, self.log, self.checkpoint)
    }

    fn decode(text: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(text).ok()?.lines();
        let epoch = lines.next()?.parse().ok()?;
        Some(Self { epoch, log: lines.next()?.to_owned(), checkpoint: lines.next()?.to_owned() })
    }
}

/// The directory of a store.
#[derive(Clone)]
pub struct Files {
    pub client: Client,
    directory: String,
}

impl Files {
    pub fn new(client: Client, directory: &str) -> Self {
        Self { client, directory: directory.trim_end_matches('/').to_owned() }
    }

    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    fn current(&self) -> String {
        self.path("current")
    }

    async fn read_current(&self) -> Result<Option<(Current, Inode)>, StoreError> {
        let file = match self.client.open(self.current()).await {
            Ok(file) => file,
            Err(error) if error.fs() == Some(&FsError::NotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // The content of exactly this version.
        let text = file.read_at(0, usize::try_from(file.length()).unwrap_or(0)).await?;
        let damaged = || StoreError::Damaged { file: "current".to_owned(), at: 0 };
        Ok(Some((Current::decode(&text).ok_or_else(damaged)?, file.inode().clone())))
    }

    /// Becomes the owner. From here on no earlier owner changes `current`.
    pub async fn take_over(&self) -> Result<(Current, Inode), StoreError> {
        self.client.mkdir_all(&self.directory, 0o700).await?;
        loop {
            let seen = self.read_current().await?;
            let (next, transaction) = match seen {
                Some((current, inode)) => {
                    let next = Current { epoch: current.epoch + 1, ..current };
                    (next, self.client.transaction().same(self.current(), &inode))
                }
                None => {
                    let log = "log-1-0".to_owned();
                    let first = Current { epoch: 1, log, checkpoint: String::new() };
                    (first, self.client.transaction().absent(self.current()))
                }
            };
            match transaction.put(self.current(), MODE, next.encode()).commit().await {
                Ok(made) => return Ok((next, made.into_iter().flatten().last().ok_or(StoreError::Closed)?)),
                // Another one was faster: it is taken over from that one.
                Err(error) if error.kind() == ErrorKind::Invalid && is_race(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Checks that nobody has taken the store over since.
    pub async fn confirm(&self, current: &Current) -> Result<(), StoreError> {
        match self.read_current().await? {
            Some((now, _)) if now == *current => Ok(()),
            _ => Err(StoreError::Lost("another instance opened it at the same time".to_owned())),
        }
    }

    /// Makes `next` what counts, and removes what counted before, if `current` is as this owner made it.
    pub async fn replace(
        &self,
        (old, inode): (&Current, &Inode),
        next: &Current,
    ) -> Result<Inode, StoreError> {
        let mut transaction = self
            .client
            .transaction()
            .same(self.current(), inode)
            .put(self.current(), MODE, next.encode())
            .unlink(self.path(&old.log));
        if !old.checkpoint.is_empty() {
            transaction = transaction.unlink(self.path(&old.checkpoint));
        }
        match transaction.commit().await {
            Ok(made) => made.into_iter().flatten().next().ok_or(StoreError::Closed),
            Err(error) if is_race(&error) => Err(StoreError::Lost(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what earlier owners left behind when they died: nothing names it. What later owners made is not
    /// this one's to judge.
    pub async fn sweep(&self, current: &Current) -> Result<(), StoreError> {
        let mut listing = self.client.list(self.directory.as_str(), ListingOptions::default());
        while let Some(entry) = listing.next().await? {
            let name = String::from_utf8_lossy(entry.name.as_bytes()).into_owned();
            let epoch = name.split('-').nth(1).and_then(|epoch| epoch.parse::<u64>().ok());
            let is_old = epoch.is_some_and(|epoch| epoch < current.epoch);
            if !is_old || name == current.log || name == current.checkpoint {
                continue;
            }
            match self.client.unlink(self.path(&name)).await {
                Err(error) if error.fs() != Some(&FsError::NotFound) => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes a table as it is after a batch, whole or not at all.
    pub async fn write_checkpoint(
        &self,
        name: &str,
        number: u64,
        rows: impl Iterator<Item = (Vec<u8>, Vec<u8>)>,
    ) -> Result<(), StoreError> {
        let mut writer = self.client.put_writer(self.path(name), MODE).await?;
        let (mut changes, mut bytes) = (Vec::new(), 0);
        for (key, value) in rows {
            let change = Change::Put { key, value };
            bytes += change.bytes();
            changes.push(change);
            if bytes >= FRAME_BYTES {
                let changes = std::mem::take(&mut changes);
                bytes = 0;
                writer.write(&record::encode(&Batch { number, changes })).await?;
            }
        }
        writer.write(&record::encode(&Batch { number, changes })).await?;
        // The end: a batch without changes.
        writer.write(&record::encode(&Batch { number, changes: Vec::new() })).await?;
        writer.finish().await?;
        Ok(())
    }

    /// The batches of a file, up to `end` or to its end, and how many bytes at the end are torn.
    pub async fn read(&self, name: &str, end: Option<u64>) -> Result<record::Frames, StoreError> {
        let file = self.client.open(self.path(name)).await?;
        let length = usize::try_from(end.unwrap_or(file.length())).map_err(|_| StoreError::TooLarge)?;
        let bytes = file.read_at(0, length).await?;
        record::decode(&bytes)
            .map_err(|damage| StoreError::Damaged { file: name.to_owned(), at: damage.at as u64 })
    }
}

/// True when a condition did not hold: `current` is another owner's.
fn is_race(error: &cairn_sdk::Error) -> bool {
    matches!(
        error.fs(),
        Some(FsError::PreconditionFailed { .. } | FsError::PreconditionRefused { .. } | FsError::Exists)
    )
}
