//! A disk whose fsync fails, entries that are gone, a peer that cannot be reached.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cairn_types::SystemClock;
use futures::TryStreamExt;
use openraft::EntryPayload;
use openraft::errors::RPCError;
use openraft::impls::BasicNode;
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::VoteRequest;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use tokio::sync::watch;

use super::flusher::Flusher;
use super::log_disk::{LogDisk, LogError, LogStart, RocksLog};
use super::log_store::{DurableMark, LogStore};
use super::met::Met;
use super::network::Network;
use super::record::{self, EntryRecord, LogIdRecord, VoteRecord};
use super::types::{Entry, TypeConfig, Vote};

/// A log whose fsyncs fail when told to.
struct FaultyDisk {
    disk: RocksLog,
    fails: AtomicBool,
    syncs: AtomicU64,
}

impl FaultyDisk {
    fn open(dir: &std::path::Path) -> Arc<Self> {
        let disk = RocksLog::open(dir).unwrap();
        Arc::new(Self { disk, fails: AtomicBool::new(false), syncs: AtomicU64::new(0) })
    }
}

impl LogDisk for FaultyDisk {
    fn load(&self) -> Result<LogStart, LogError> {
        self.disk.load()
    }

    fn append(&self, entries: &[(u64, Bytes)]) -> Result<(), LogError> {
        self.disk.append(entries)
    }

    fn truncate(&self, from: u64) -> Result<(), LogError> {
        self.disk.truncate(from)
    }

    fn purge(&self, upto: LogIdRecord) -> Result<(), LogError> {
        self.disk.purge(upto)
    }

    fn save_vote(&self, vote: &VoteRecord) -> Result<(), LogError> {
        self.disk.save_vote(vote)
    }

    fn save_committed(&self, committed: Option<LogIdRecord>) -> Result<(), LogError> {
        self.disk.save_committed(committed)
    }

    fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<EntryRecord>, LogError> {
        self.disk.read(range, bytes_max)
    }

    fn sync(&self) -> Result<(), LogError> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        if self.fails.load(Ordering::SeqCst) {
            return Err(LogError::Mark(std::io::Error::from_raw_os_error(5)));
        }
        self.disk.sync()
    }
}

fn store(disk: &Arc<FaultyDisk>) -> (LogStore, Flusher) {
    let disk: Arc<dyn LogDisk> = Arc::clone(disk) as Arc<dyn LogDisk>;
    let (flusher, _) = Flusher::start(Arc::clone(&disk), Arc::new(SystemClock)).unwrap();
    let mark = DurableMark::default();
    (LogStore::open(disk, flusher.clone(), mark).unwrap(), flusher)
}

fn entry(index: u64) -> Entry {
    Entry { log_id: LogIdRecord { term: 1, index }.into(), payload: EntryPayload::Blank }
}

fn vote(term: u64) -> Vote {
    VoteRecord { term, node: 1, committed: false }.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_fsync_every_waiter_gets_the_error_and_none_is_tried_again() {
    let temp = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::open(temp.path());
    let (mut log, flusher) = store(&disk);
    log.save_vote(&vote(1)).await.unwrap();
    disk.fails.store(true, Ordering::SeqCst);
    let (first, second) = tokio::join!(flusher.durable(), flusher.durable());
    assert!(first.is_err() && second.is_err());
    let tried = disk.syncs.load(Ordering::SeqCst);
    // The disk works again, but nobody knows what it lost.
    disk.fails.store(false, Ordering::SeqCst);
    assert!(log.save_vote(&vote(2)).await.is_err());
    log.append([entry(0)], IOFlushed::noop()).await.unwrap();
    assert!(flusher.durable().await.is_err());
    assert_eq!(disk.syncs.load(Ordering::SeqCst), tried);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_are_gone_are_an_error_where_their_place_matters() {
    let temp = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::open(temp.path());
    let entries: Vec<(u64, Bytes)> =
        (3..6).map(|index| (index, record::encode(&EntryRecord::from(&entry(index))))).collect();
    disk.append(&entries).unwrap();
    let (mut log, _flusher) = store(&disk);
    let mut reader = log.get_log_reader().await;
    assert!(reader.limited_get_log_entries(1, 6).await.is_err(), "the beginning is gone");
    assert!(reader.limited_get_log_entries(1, 3).await.is_err(), "all of it is gone");
    assert_eq!(reader.limited_get_log_entries(3, 6).await.unwrap().len(), 3);
    assert_eq!(reader.limited_get_log_entries(6, 9).await.unwrap().len(), 0, "past the end");
    assert_eq!(reader.limited_get_log_entries(1, 1).await.unwrap().len(), 0, "nothing asked for");
    let applied = reader.entries_stream(1..6).await.try_collect::<Vec<_>>().await;
    assert!(applied.is_err());
    let applied = reader.entries_stream(4..100).await.try_collect::<Vec<_>>().await;
    assert_eq!(applied.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_cannot_be_reached_grants_nothing_and_is_not_met() {
    let temp = tempfile::tempdir().unwrap();
    let address = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let met = Arc::new(Met::open(&temp.path().join("met")).unwrap());
    let mut network = Network::new(1, watch::Sender::new(None).subscribe(), Arc::clone(&met));
    let mut peer = network.new_client(2, &BasicNode { addr: address.to_string() }).await;
    let limit = || RPCOption::new(Duration::from_secs(5));
    let request = || VoteRequest::<TypeConfig>::new(vote(1), None);
    let refused = peer.pre_vote(request(), limit()).await;
    assert!(matches!(refused, Err(RPCError::Unreachable(_) | RPCError::Network(_))), "{refused:?}");
    let refused = peer.vote(request(), limit()).await;
    assert!(matches!(refused, Err(RPCError::Unreachable(_) | RPCError::Network(_))), "{refused:?}");
    assert!(!met.has(2));
}
