//! [`Batches`]: the entries of a listing as the server sends them, taken up again where a stream broke.

use std::vec::IntoIter;

use cairn_proto::v1::{self, ListRequest};
use cairn_types::FsError;
use tonic::Streaming;

use crate::client::Client;
use crate::error::{Cause, Error, Result};
use crate::freshness::Freshness;
use crate::target::At;

/// Times in a row that a broken stream is taken up again without an entry in between.
const RESUMES_MAX: usize = 30;

/// The entries that a request asks for.
pub(crate) struct Batches {
    client: Client,
    pub(crate) target: At,
    freshness: Freshness,
    /// What is left to be asked for.
    request: ListRequest,
    bounded: bool,
    stream: Option<Streaming<v1::ListBatch>>,
    ready: IntoIter<v1::ListEntry>,
    pub(crate) snapshots: u64,
    /// The entry of the log that the newest of them shows; 0 before the first.
    pub(crate) snapshot_index: u64,
    /// How old it may have been.
    pub(crate) age_ms: u64,
    failures: usize,
    ended: bool,
}

impl Batches {
    /// Those that `request` asks for; its target is taken from `target`.
    pub(crate) fn new(client: Client, target: At, freshness: Freshness, request: ListRequest) -> Self {
        Self {
            client,
            target,
            bounded: request.limit > 0,
            freshness,
            request,
            stream: None,
            ready: Vec::new().into_iter(),
            snapshots: 0,
            snapshot_index: 0,
            age_ms: 0,
            failures: 0,
            ended: false,
        }
    }

    /// The next entry, or `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<v1::ListEntry>> {
        loop {
            if let Some(entry) = self.ready.next() {
                return Ok(Some(entry));
            }
            if self.ended {
                return Ok(None);
            }
            self.next_batch().await?;
        }
    }

    async fn next_batch(&mut self) -> Result<()> {
        let Some(stream) = self.stream.as_mut() else {
            let stream = self.open().await?;
            self.stream = Some(stream);
            self.snapshots += 1;
            self.snapshot_index = 0;
            return Ok(());
        };
        match stream.message().await {
            Ok(Some(batch)) => {
                self.take(batch);
                Ok(())
            }
            // The server ended it before the last batch: go on after the last name.
            Ok(None) => self.resume(Cause::Closed).await,
            Err(status) => self.resume(status.into()).await,
        }
    }

    fn take(&mut self, batch: v1::ListBatch) {
        (self.snapshot_index, self.age_ms) = (batch.snapshot_index, batch.age_ms);
        if let Some(last) = batch.entries.last() {
            self.failures = 0;
            self.request.start_after = resume_after(last, self.request.recursive);
        }
        if self.bounded {
            self.request.limit = self.request.limit.saturating_sub(batch.entries.len() as u64);
        }
        self.ended = batch.last || self.bounded && self.request.limit == 0;
        self.ready = batch.entries.into_iter();
    }

    async fn resume(&mut self, cause: Cause) -> Result<()> {
        self.stream = None;
        self.failures += 1;
        match cause {
            // A directory of a mount, met on the way.
            Cause::Fs(FsError::Importing { intent }) if self.failures <= RESUMES_MAX => {
                self.client.wait_intent(intent).await
            }
            cause if self.failures > RESUMES_MAX || matches!(cause, Cause::Fs(_)) => {
                Err(Error::new("list", &self.target, cause))
            }
            _ => Ok(()),
        }
    }

    async fn open(&self) -> Result<Streaming<v1::ListBatch>> {
        let target = Some(self.target.wire("list", false)?);
        let (consistency, max_age_ms) = self.freshness.wire(&self.client.reach().options);
        let request = |session| ListRequest {
            target: target.clone(),
            consistency,
            max_age_ms,
            session,
            ..self.request.clone()
        };
        self.client
            .ask_imported(
                "list",
                &self.target.to_string(),
                (self.freshness, request),
                |mut meta, mut request| async move {
                    // The stream outlives the deadline of the call that opens it.
                    request.metadata_mut().remove("grpc-timeout");
                    meta.list(request).await
                },
            )
            .await
    }
}

/// What is greater than the entry and all before it, and nothing else.
fn resume_after(entry: &v1::ListEntry, recursive: bool) -> bytes::Bytes {
    let is_dir = entry.inode.as_ref().is_some_and(|inode| inode.kind() == v1::FileKind::Directory);
    if recursive && is_dir && !entry.common_prefix {
        return [entry.name.as_ref(), b"/"].concat().into();
    }
    entry.name.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_of_keys_goes_on_behind_a_directory_s_key() {
        let inode = |kind: v1::FileKind| Some(v1::Inode { kind: kind.into(), ..Default::default() });
        let entry = |kind, common_prefix| v1::ListEntry {
            name: "a".into(),
            inode: inode(kind),
            growing: false,
            common_prefix,
        };
        let directory = entry(v1::FileKind::Directory, false);
        assert_eq!(resume_after(&directory, true), "a/");
        assert_eq!(resume_after(&directory, false), "a");
        assert_eq!(resume_after(&entry(v1::FileKind::File, false), true), "a");
        assert_eq!(resume_after(&entry(v1::FileKind::Directory, true), true), "a");
    }
}
