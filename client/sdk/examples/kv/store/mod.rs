//! A key-value store on a log in CairnFS, owned by one instance at a time.
//!
//! The table is in memory; each change is first a record of the log, which is on the disks of several data nodes
//! when it is answered. What is written at the same time shares a record (group commit). Now and then the
//! table is written down as a checkpoint, and a new log begins.
//!
//! To open a store is to take it from whoever has it, alive or not:
//!
//! 1. `current` is replaced, on the condition that it is as it was read: the old owner's next checkpoint fails.
//! 2. `open_exclusive` fences the old owner off its log and answers the exact end of all it had acknowledged.
//!    If `current` is still this owner's after that, whoever comes next has to fence this one in the same way.
//! 3. Checkpoint and log are read up to there. That is the table, whatever the old owner still sends.

pub mod files;
pub mod record;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use cairn_sdk::types::Inode;
use cairn_sdk::{Appender, Client, ErrorKind};
use tokio::sync::{mpsc, oneshot};

use files::{Current, Files};
use record::{Batch, Change};

/// Bytes of a key, and of a value, at most.
pub const KEY_BYTES_MAX: usize = 1 << 10;
pub const VALUE_BYTES_MAX: usize = 512 << 10;
/// Bytes of changes in one record, at most: below the 1 MiB of an append.
pub const BATCH_BYTES_MAX: usize = 900 << 10;
/// Writes that wait, at most; who writes more waits.
const QUEUE: usize = 1024;

type Table = BTreeMap<Vec<u8>, Vec<u8>>;

/// Why the store could not.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// CairnFS could not. The store stays as it was if the kind is `Unavailable`.
    #[error(transparent)]
    Cairn(#[from] cairn_sdk::Error),
    /// Another instance owns the store, or what became of a write is not known: open it anew.
    #[error("this instance does not own the store any more: {0}")]
    Lost(String),
    /// A file holds what no crash leaves there.
    #[error("{file} is damaged at {at}")]
    Damaged {
        /// Its name.
        file: String,
        /// Where.
        at: u64,
    },
    /// A key, a value or a batch is larger than it may be.
    #[error("a key, a value or a batch is too large")]
    TooLarge,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// What a writer asks of the task that owns the log.
enum Command {
    Write(Vec<Change>, oneshot::Sender<Result<(), StoreError>>),
    Checkpoint(oneshot::Sender<Result<(), StoreError>>),
    Close(oneshot::Sender<Result<(), StoreError>>),
}

/// An open store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    commands: mpsc::Sender<Command>,
    // Guards: readers see a batch wholly or not at all. Never held across an await.
    table: Arc<RwLock<Table>>,
    epoch: u64,
}

impl Store {
    /// Opens the store in `directory`, makes it when there is none, and takes it from whoever has it. A new log
    /// begins when one has grown to `log_bytes`.
    pub async fn open(client: Client, directory: &str, log_bytes: u64) -> Result<Self, StoreError> {
        let files = Files::new(client, directory);
        let (current, inode) = files.take_over().await?;
        let log = files.client.open_exclusive(files.path(&current.log)).await?;
        // Another one may have taken the store between the two steps, gone on to a new log and removed this one.
        files.confirm(&current).await?;
        let end = log.end().unwrap_or(0);
        let mut table = Table::new();
        let mut number = 0;
        if !current.checkpoint.is_empty() {
            number = load(&files, &current.checkpoint, &mut table).await?;
        }
        let frames = files.read(&current.log, Some(end)).await?;
        for batch in frames.batches {
            // Numbers without a gap: nothing between two batches is missing.
            if batch.number != number + 1 {
                return Err(StoreError::Damaged { file: current.log, at: 0 });
            }
            number = batch.number;
            apply(&mut table, batch.changes);
        }
        files.sweep(&current).await?;
        let epoch = current.epoch;
        let table = Arc::new(RwLock::new(table));
        let shared = Arc::clone(&table);
        let mut owner =
            Owner { files, current, inode, log, end, number, made: 0, log_bytes, table, lost: None };
        if frames.torn > 0 {
            // Nothing may come after half a frame: what is whole goes into a checkpoint.
            owner.checkpoint().await?;
        }
        let (commands, queue) = mpsc::channel(QUEUE);
        tokio::spawn(owner.run(queue));
        Ok(Self { commands, table: shared, epoch })
    }

    /// Which of its owners this one is: a later one has a greater number.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Sets a key. When this returns the change is on the disks of the policy's replicas.
    pub async fn put(&self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Result<(), StoreError> {
        self.write(vec![Change::Put { key: key.into(), value: value.into() }]).await
    }

    /// Removes a key, if it is there. As durable as [`put`](Self::put).
    pub async fn delete(&self, key: impl Into<Vec<u8>>) -> Result<(), StoreError> {
        self.write(vec![Change::Delete { key: key.into() }]).await
    }

    /// Makes changes together: after a crash all of them are there, or none.
    pub async fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let fits = |change: &Change| match change {
            Change::Put { key, value } => key.len() <= KEY_BYTES_MAX && value.len() <= VALUE_BYTES_MAX,
            Change::Delete { key } => key.len() <= KEY_BYTES_MAX,
        };
        if !changes.iter().all(fits) || changes.iter().map(Change::bytes).sum::<usize>() > BATCH_BYTES_MAX {
            return Err(StoreError::TooLarge);
        }
        self.ask(|reply| Command::Write(changes, reply)).await
    }

    /// The value of a key, of what this instance has written and found: that of the store as long as it owns it.
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Keys that begin with `prefix`, and their values, in order.
    pub fn list(&self, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let from = table.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        from.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Writes the table down and begins a new log.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        self.ask(Command::Checkpoint).await
    }

    /// Waits for what is under way and closes the log.
    pub async fn close(self) -> Result<(), StoreError> {
        self.ask(Command::Close).await
    }

    async fn ask(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), StoreError>>) -> Command,
    ) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

/// Reads a checkpoint; answers the number of the last batch that is in it.
async fn load(files: &Files, name: &str, table: &mut Table) -> Result<u64, StoreError> {
    let frames = files.read(name, None).await?;
    let last = frames.batches.last();
    let whole = frames.torn == 0 && last.is_some_and(|last| last.changes.is_empty());
    let number = last.map(|last| last.number).filter(|_| whole);
    let number = number.ok_or_else(|| StoreError::Damaged { file: name.to_owned(), at: 0 })?;
    for batch in frames.batches {
        apply(table, batch.changes);
    }
    Ok(number)
}

fn apply(table: &mut Table, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Put { key, value } => table.insert(key, value),
            Change::Delete { key } => table.remove(&key),
        };
    }
}

/// The task that owns the log.
struct Owner {
    files: Files,
    current: Current,
    /// Of `current`, as this owner made it.
    inode: Inode,
    log: Appender,
    /// Where the log ends.
    end: u64,
    /// Of the last batch.
    number: u64,
    /// Logs that this owner has begun.
    made: u64,
    log_bytes: u64,
    table: Arc<RwLock<Table>>,
    /// Why this is the owner no more.
    lost: Option<String>,
}

impl Owner {
    async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let mut commands = Vec::new();
        // All that came while the last record was on its way goes together in the next ones.
        while queue.recv_many(&mut commands, QUEUE).await > 0 {
            let (mut changes, mut bytes, mut replies) = (Vec::new(), 0, Vec::new());
            for command in commands.drain(..) {
                match command {
                    Command::Write(more, reply) => {
                        let size: usize = more.iter().map(Change::bytes).sum();
                        if bytes + size > BATCH_BYTES_MAX {
                            self.commit(std::mem::take(&mut changes), std::mem::take(&mut replies)).await;
                            bytes = 0;
                        }
                        bytes += size;
                        changes.extend(more);
                        replies.push(reply);
                    }
                    Command::Checkpoint(reply) => {
                        self.commit(std::mem::take(&mut changes), std::mem::take(&mut replies)).await;
                        bytes = 0;
                        // Whoever asked may be gone, here and below.
                        let _ = reply.send(self.checkpoint().await);
                    }
                    Command::Close(reply) => {
                        self.commit(changes, replies).await;
                        let _ = reply.send(self.close().await);
                        return;
                    }
                }
            }
            self.commit(changes, replies).await;
            if self.end >= self.log_bytes && self.lost.is_none() {
                // One that cannot be made now is tried again after the next batch.
                let _ = self.checkpoint().await;
            }
        }
    }

    /// Appends one record, applies it, and answers all whose changes are in it.
    async fn commit(&mut self, changes: Vec<Change>, replies: Vec<oneshot::Sender<Result<(), StoreError>>>) {
        if replies.is_empty() {
            return;
        }
        let outcome = if self.lost.is_none() { self.append(changes).await } else { Ok(()) };
        for reply in replies {
            let told = match (&self.lost, &outcome) {
                (Some(why), _) => Err(StoreError::Lost(why.clone())),
                (None, Err(error)) => Err(StoreError::Cairn(error.clone())),
                (None, Ok(())) => Ok(()),
            };
            let _ = reply.send(told);
        }
    }

    async fn append(&mut self, changes: Vec<Change>) -> Result<(), cairn_sdk::Error> {
        let batch = Batch { number: self.number + 1, changes };
        let frame = record::encode(&batch);
        let length = frame.len() as u64;
        // Only where this owner knows the end to be: somebody who appends without asking is found out too.
        match self.log.append_at(self.end, frame).await {
            Ok(_) => {
                self.end += length;
                self.number = batch.number;
                apply(&mut self.table.write().unwrap_or_else(PoisonError::into_inner), batch.changes);
                Ok(())
            }
            Err(error) => {
                // Nothing was appended if nobody could take it for now; after all else only a recovery tells.
                if error.kind() != ErrorKind::Unavailable {
                    self.lost = Some(error.to_string());
                }
                Err(error)
            }
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        self.lost.as_ref().map_or(Ok(()), |why| Err(StoreError::Lost(why.clone())))
    }

    /// Writes the table down, begins a new log, and makes both what counts, in one step.
    async fn checkpoint(&mut self) -> Result<(), StoreError> {
        self.check()?;
        self.made += 1;
        let (epoch, made) = (self.current.epoch, self.made);
        let next = Current {
            epoch,
            log: format!("log-{epoch}-{made}"),
            checkpoint: format!("checkpoint-{epoch}-{made}"),
        };
        let rows = self.table.read().unwrap_or_else(PoisonError::into_inner).clone();
        self.files.write_checkpoint(&next.checkpoint, self.number, rows.into_iter()).await?;
        let log = self.files.client.open_exclusive(self.files.path(&next.log)).await?;
        match self.files.replace((&self.current, &self.inode), &next).await {
            Ok(inode) => {
                // Its file is gone: there is nothing to close.
                self.log = log;
                (self.current, self.inode, self.end) = (next, inode, 0);
                Ok(())
            }
            Err(error) => {
                let unknown =
                    matches!(&error, StoreError::Cairn(error) if error.kind() == ErrorKind::Unknown);
                if unknown || matches!(error, StoreError::Lost(_)) {
                    self.lost = Some(error.to_string());
                }
                Err(error)
            }
        }
    }

    async fn close(self) -> Result<(), StoreError> {
        self.check()?;
        Ok(self.log.close().await?)
    }
}
