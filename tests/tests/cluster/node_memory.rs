//! A data node's memory is what its configuration says, and does not grow with what it serves: measured
//! from outside, as the system counts it. `CAIRN_LONG` (`cargo xtask test --long`) takes a thousand
//! streams and a file of 10 GiB.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cairn_sdk::types::{Persist, Policy};
use cairn_tests::cluster::{Cluster, ClusterOptions, UnderStore};
use tokio::task::{JoinHandle, JoinSet};

const STREAMS: u32 = 100;
const STREAMS_LONG: u32 = 1_000;
/// What each stream appends.
const RECORDS: u8 = 64;
const RECORD_BYTES: usize = 16 << 10;
const IN_FLIGHT: usize = 16;
const FILE_MIB: u64 = 384;
const FILE_MIB_LONG: u64 = 10 * 1024;
/// What the node is told to use for buffers.
const MEMORY_MIB: u64 = 128;
/// What it may take besides: the program itself, connections and their windows, the index, and what the
/// allocator has not given back.
const BESIDE_MIB: u64 = 256;

fn long() -> bool {
    std::env::var_os("CAIRN_LONG").is_some()
}

fn options(policy: Policy, understore: UnderStore) -> ClusterOptions {
    let data_toml = format!("memory_mib = {MEMORY_MIB}\n");
    ClusterOptions { policy, understore, data_toml, ..ClusterOptions::single() }
}

fn resident_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Looks at a process again and again; knows the most it has had.
struct Gauge {
    most_mib: Arc<AtomicU64>,
    looks: JoinHandle<()>,
}

impl Gauge {
    fn of(cluster: &Cluster) -> Self {
        let (pid, most_mib) = (cluster.datas[0].pid().unwrap(), Arc::new(AtomicU64::new(0)));
        let most = Arc::clone(&most_mib);
        let looks = tokio::spawn(async move {
            loop {
                most.fetch_max(resident_mib(pid), Ordering::Relaxed);
                // Another process's memory tells nobody when it changes.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Self { most_mib, looks }
    }

    fn most(&self) -> u64 {
        self.most_mib.load(Ordering::Relaxed)
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.looks.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_take_no_more_memory_than_configured() {
    let policy = Policy { persist: Persist::Never, ..Policy::single() };
    let cluster = Cluster::start(options(policy, UnderStore::None)).await.unwrap();
    let client = cluster.client().await.unwrap();
    let gauge = Gauge::of(&cluster);
    let streams = if long() { STREAMS_LONG } else { STREAMS };
    let mut writers = JoinSet::new();
    for n in 0..streams {
        let appender = client.open_append(format!("/log-{n}")).await.unwrap();
        writers.spawn(async move {
            let mut under_way = VecDeque::new();
            for n in 0..RECORDS {
                under_way.push_back(appender.submit(vec![n; RECORD_BYTES]).await.unwrap());
                if under_way.len() == IN_FLIGHT {
                    under_way.pop_front().unwrap().offset().await.unwrap();
                }
            }
            for answer in under_way {
                answer.offset().await.unwrap();
            }
            appender
        });
    }
    // Every stream is open until the last one has written.
    let appenders = writers.join_all().await;
    assert_eq!(appenders.len(), streams as usize);
    let most = gauge.most();
    println!("{streams} streams: {most} MiB at most, {MEMORY_MIB} configured");
    assert!((1..=MEMORY_MIB + BESIDE_MIB).contains(&most), "{most} MiB");
}

fn piece(n: u64) -> Vec<u8> {
    (0..1u64 << 20).map(|i| ((i.wrapping_mul(0x9e37_79b9) >> 11) ^ (n * 77)) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_is_written_and_read_in_memory_that_does_not_grow() {
    // Less disk than the file is long in a long run: what is in S3 goes as it must.
    let options = options(Policy::single(), UnderStore::Directory);
    let cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    let gauge = Gauge::of(&cluster);
    let pieces = if long() { FILE_MIB_LONG } else { FILE_MIB };
    let mut file = client.create("/large", 0o644).await.unwrap();
    let mut early = 0;
    for n in 0..pieces {
        file.write(&piece(n)).await.unwrap();
        if n == pieces / 2 {
            early = gauge.most();
        }
    }
    file.close().await.unwrap();
    let written = gauge.most();
    let mut file = client.open("/large").await.unwrap();
    assert_eq!(file.length(), pieces << 20);
    for n in 0..pieces {
        let mut read = Vec::new();
        while read.len() < 1 << 20 {
            let more = file.read((1 << 20) - read.len()).await.unwrap();
            assert!(!more.is_empty(), "MiB {n} ends early");
            read.extend_from_slice(&more);
        }
        assert!(read == piece(n), "MiB {n}");
    }
    let most = gauge.most();
    println!("{pieces} MiB: {early} MiB after half of it, {written} when written, {most} when read");
    assert!((1..=MEMORY_MIB + BESIDE_MIB).contains(&most), "{most} MiB");
    assert!(written <= early + MEMORY_MIB / 2, "the second half took {early} -> {written} MiB");
}
