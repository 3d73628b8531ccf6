//! The cases: what each prepares, measures, and compares itself with.

mod appends;
pub mod files;
pub mod metadata;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_sdk::Client;

use super::measure::{Aim, Beside, Run};
use super::{Case, Setting, Unit, echo, limit, wire};
use crate::exit::CliError;

/// Bytes of the messages of round trips and echoes.
const TRIP_BYTES: usize = 128;
/// Pieces in which a disk is filled, as large as a group commit under load.
const FILLED_BYTES: usize = 1 << 20;

/// Copies that the append cases write, and what a record of the store has beside its payload: a header
/// and a checksum for each 16 KiB (docs/FORMAT.md).
const REPLICAS: usize = 3;
const RECORD_MORE_BYTES: usize = 96;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Every case, in the order in which `all` runs them.
pub const CASES: &[Case] = &[
    case("append-4k-r3-fsync", Unit::Micros, on(3, 3, 3), "4 KiB appends, one at a time, 3 replicas, fsync")
        .aims(Aim::LatencySpread { limit: 1.5, beside: 10.0, spread: 5.0 }),
    case("append-4k-r1-fsync", Unit::Micros, on(1, 1, 1), "4 KiB appends, one at a time, 1 replica, fsync")
        .aims(Aim::Latency { limit: 1.2, beside: 6.0, more_us: 0.0 }),
    case("append-4k-r3-pipelined", Unit::PerSecond, on(3, 3, 3), "the same, one writer, 64 in flight")
        .aims(Aim::Rate { limit: 0.6, enough: 20_000.0 }),
    case("append-4k-r3-w64", Unit::PerSecond, on(3, 3, 3), "the same, 64 writers, each at its own file")
        .aims(Aim::Rate { limit: 0.6, enough: 20_000.0 }),
    case("failover-append", Unit::Micros, Setting::KilledData, "a replica killed, until an append answers")
        .aims(Aim::Limit),
    case(
        "datanode-restart",
        Unit::Micros,
        Setting::Restarted,
        "a data node killed and started, until it answers",
    )
    .aims(Aim::Limit),
    case("create-c64-m3", Unit::PerSecond, on(3, 0, 1), "empty files, 64 at once, 3 metadata servers")
        .aims(Aim::RateAlone(12_000.0)),
    case("create-txn100-m3", Unit::PerSecond, on(3, 0, 1), "empty files, 100 to a transaction, 64 at once")
        .aims(Aim::RateAlone(60_000.0)),
    case("create-c1-m3", Unit::Micros, on(3, 0, 1), "empty files, one at a time, 3 metadata servers")
        .aims(Aim::Latency { limit: 2.0, beside: 4.0, more_us: 0.0 }),
    case("rename-dir-1m", Unit::Micros, on(1, 0, 1), "renames of a large directory, beside an empty one")
        .aims(Aim::Latency { limit: 1.2, beside: 0.0, more_us: 0.0 }),
    case(
        "list-1m-attrs",
        Unit::PerSecond,
        on(1, 0, 1),
        "entries a second of a large directory, with attributes",
    )
    .aims(Aim::RateAlone(600_000.0)),
    case(
        "list-10m-attrs",
        Unit::PerSecond,
        Setting::Kept,
        "the same of ten times as many, and the memory it takes",
    )
    .aims(Aim::RateAlone(600_000.0)),
    case("create-in-10m", Unit::Micros, Setting::Kept, "empty files in that directory, one at a time")
        .aims(Aim::Latency { limit: 1.2, beside: 0.0, more_us: 0.0 }),
    case("inode-bytes-10m", Unit::Bytes, Setting::Kept, "bytes of the state on disk for each file of it")
        .aims(Aim::Limit),
    case("restart-10m", Unit::Micros, Setting::Kept, "its server killed and started, until it answers")
        .aims(Aim::Limit),
    case(
        "failover-leader",
        Unit::Micros,
        Setting::Killed,
        "the leader killed, until a change is acknowledged",
    )
    .aims(Aim::Limit),
    case("stat-deep8", Unit::PerSecond, on(1, 1, 1), "stat of a path 8 levels deep, 64 at once")
        .aims(Aim::Rate { limit: 0.6, enough: f64::INFINITY }),
    case("stat-deep8-many", Unit::PerSecond, on(1, 1, 1), "the same, 512 to a call")
        .aims(Aim::RateAlone(150_000.0)),
    case("stat-deep8-c1-lease", Unit::Micros, on(1, 1, 1), "the same one at a time, by the leader's lease")
        .aims(Aim::Latency { limit: 1.0, beside: 0.0, more_us: 30.0 }),
    case(
        "read-4k-cached",
        Unit::Micros,
        on(1, 1, 1),
        "random 4 KiB reads, one at a time, from the data node",
    )
    .aims(Aim::Latency { limit: 6.0, beside: 0.0, more_us: 0.0 }),
    case(
        "read-seq-cached",
        Unit::MegabytesPerSecond,
        on(1, 1, 1),
        "one sequential reader, from the data node",
    )
    .aims(Aim::RateAbove { limit: 0.4 }),
    case(
        "read-seq-local",
        Unit::MegabytesPerSecond,
        on(1, 1, 1),
        "the same over a unix socket of the same machine",
    )
    .aims(Aim::Rate { limit: 1.5, enough: f64::INFINITY }),
    case("write-seq-r1", Unit::MegabytesPerSecond, on(1, 1, 1), "one sequential writer, 1 replica, fsync")
        .aims(Aim::Rate { limit: 0.75, enough: f64::INFINITY }),
    case("write-seq-r3", Unit::MegabytesPerSecond, on(3, 3, 3), "the same, 3 replicas on one disk")
        .aims(Aim::Rate { limit: 0.25, enough: f64::INFINITY }),
    case("smallfiles-write", Unit::PerSecond, on(1, 1, 1), "4 KiB files written and closed, 64 at once")
        .aims(Aim::RateAlone(8_000.0)),
    case(
        "read-cold",
        Unit::MegabytesPerSecond,
        Setting::UnderStore,
        "one sequential reader of what only S3 has",
    )
    .aims(Aim::Rate { limit: 0.9, enough: f64::INFINITY }),
    case("smallfiles-puts", Unit::Count, Setting::UnderStore, "PUTs that 100,000 files of 4 KiB cost")
        .aims(Aim::Limit),
    case(
        "mount-import-1m",
        Unit::PerSecond,
        Setting::UnderStore,
        "objects of a mounted bucket (--objects) that become files",
    )
    .aims(Aim::Rate { limit: 0.9, enough: f64::INFINITY }),
    case(
        "mount-read-cold",
        Unit::MegabytesPerSecond,
        Setting::UnderStore,
        "one sequential reader of a mounted object (--mounted-mib)",
    )
    .aims(Aim::Rate { limit: 0.9, enough: f64::INFINITY }),
    case("mount-read-cached", Unit::Micros, Setting::UnderStore, "random 4 KiB reads of it, from the cache")
        .aims(Aim::Limit),
    case(
        "mount-rename-dir",
        Unit::PerSecond,
        Setting::UnderStore,
        "objects that follow a directory's rename (--objects)",
    ),
    case(
        "mount-append-10g",
        Unit::Micros,
        Setting::UnderStore,
        "1 KiB appended to a mounted object (--mounted-mib), until the bucket has it",
    ),
    case("smallfiles-read", Unit::PerSecond, on(1, 1, 1), "4 KiB files opened and read, 64 at once")
        .aims(Aim::RateAlone(8_000.0)),
];

const fn case(name: &'static str, unit: Unit, setting: Setting, about: &'static str) -> Case {
    Case { name, unit, setting, about, aim: None }
}

impl Case {
    const fn aims(self, aim: Aim) -> Self {
        Self { aim: Some(aim), ..self }
    }
}

const fn on(metas: usize, datas: usize, replicas: u8) -> Setting {
    Setting::Cluster { metas, datas, replicas }
}

/// A name that no earlier run in the same cluster has used.
pub fn run_name(what: &str) -> String {
    format!("{what}-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// How much to do.
pub struct Scale {
    /// Length of a timed run.
    pub seconds: f64,
    /// Entries of the large directory.
    pub entries: u64,
}

/// What a case made before its runs.
#[derive(Default)]
pub struct Prepared {
    /// A directory or file to work on.
    path: String,
    /// A client that uses no unix socket, for the limit of the case that does.
    pub over_tcp: Option<Client>,
}

impl Prepared {
    fn at(path: String) -> Self {
        Self { path, over_tcp: None }
    }
}

/// Bytes that one unit of a case's rate stands for; `None` where bytes are not what it counts.
pub fn bytes_each(name: &str, unit: Unit) -> Option<f64> {
    match unit {
        Unit::MegabytesPerSecond if name.starts_with("write-") => Some(1e6),
        _ if name.starts_with("append-") => Some(appends::RECORD_BYTES as f64),
        _ => None,
    }
}

/// Makes what the case needs.
pub async fn prepare(name: &str, client: &Client, root: &str, scale: &Scale) -> Result<Prepared, CliError> {
    match name {
        "list-1m-attrs" | "rename-dir-1m" => {
            let path = format!("{root}/large");
            metadata::fill_by_transactions(client, &path, scale.entries).await?;
            Ok(Prepared::at(path))
        }
        "stat-deep8" | "stat-deep8-many" | "stat-deep8-c1-lease" => {
            let path = format!("{root}/1/2/3/4/5/6");
            client.mkdir_all(path.as_str(), 0o755).await?;
            let path = format!("{path}/file");
            client.put(path.as_str(), 0o644, b"x").await?;
            Ok(Prepared::at(path))
        }
        "read-4k-cached" | "read-seq-cached" | "read-seq-local" => {
            let path = format!("{root}/data");
            files::fill(client, &path).await?;
            Ok(Prepared::at(path))
        }
        "smallfiles-read" => {
            let path = format!("{root}/small");
            files::fill_small(client, &path).await?;
            Ok(Prepared::at(path))
        }
        _ => Ok(Prepared::default()),
    }
}

/// One run.
pub async fn measure(
    name: &str,
    client: &Client,
    root: &str,
    prepared: &Prepared,
    scale: &Scale,
) -> Result<Run, CliError> {
    match name {
        "append-4k-r3-fsync" | "append-4k-r1-fsync" => appends::alone(client, root, scale.seconds).await,
        "append-4k-r3-pipelined" => appends::pipelined(client, root, scale.seconds).await,
        "append-4k-r3-w64" => appends::many_writers(client, root, scale.seconds).await,
        "create-c64-m3" => metadata::create(client, root, scale.seconds).await,
        "create-txn100-m3" => metadata::create_in_transactions(client, root, scale.seconds).await,
        "create-c1-m3" => metadata::create_alone(client, root, scale.seconds).await,
        "rename-dir-1m" => metadata::rename(client, &prepared.path).await,
        "stat-deep8-many" => metadata::stat_many(client, &prepared.path, scale.seconds).await,
        "stat-deep8-c1-lease" => metadata::stat_alone(client, &prepared.path, scale.seconds).await,
        "list-1m-attrs" => metadata::list(client, &prepared.path).await,
        "stat-deep8" => metadata::stat(client, &prepared.path, scale.seconds).await,
        "read-4k-cached" => files::read_random(client, &prepared.path, scale.seconds).await,
        "read-seq-cached" | "read-seq-local" => files::read_sequential(client, &prepared.path).await,
        "write-seq-r1" | "write-seq-r3" => files::write_sequential(client, root).await,
        "smallfiles-write" => files::small(client, root, scale.seconds).await,
        "smallfiles-read" => files::read_small(client, &prepared.path, scale.seconds).await,
        other => Err(CliError::Usage(format!("no bench is named '{other}'"))),
    }
}

/// What the aims of some cases count in, measured at the same moment.
pub async fn beside(name: &str, scale: &Scale) -> Result<Option<Beside>, CliError> {
    let seconds = scale.seconds.min(2.0);
    Ok(match name {
        "append-4k-r3-fsync" | "append-4k-r1-fsync" => {
            Some(("TCP round trip", wire::round_trips(TRIP_BYTES, seconds).await?))
        }
        "create-c1-m3" => Some(("gRPC echo", echo::calls(TRIP_BYTES, 1, seconds).await?)),
        "read-seq-cached" => Some(("gRPC stream of 1 MiB", echo::flood(1 << 30).await?)),
        _ => None,
    })
}

/// The limit of a run, measured now, and its name.
pub async fn limit(
    name: &str,
    client: &Client,
    (directory, root): (&Path, &str),
    prepared: &Prepared,
    scale: &Scale,
) -> Result<(&'static str, Run), CliError> {
    let seconds = scale.seconds.min(2.0);
    Ok(match name {
        "append-4k-r3-fsync" => {
            ("fdatasync, 3 writers", limit::fdatasync(directory, 3, 4096, seconds).await?)
        }
        "append-4k-r1-fsync" => ("fdatasync, 1 writer", limit::fdatasync(directory, 1, 4096, seconds).await?),
        "create-c1-m3" => ("fdatasync, 2 writers", limit::fdatasync(directory, 2, 4096, seconds).await?),
        "rename-dir-1m" => {
            let path = format!("{root}/empty");
            client.mkdir_all(path.as_str(), 0o755).await?;
            ("of an empty directory", metadata::rename(client, &path).await?)
        }
        "stat-deep8-c1-lease" => ("gRPC echo", echo::calls(TRIP_BYTES, 1, seconds).await?),
        "list-1m-attrs" => ("RocksDB iteration", metadata::iterate(directory, scale.entries).await?),
        "append-4k-r3-pipelined" | "append-4k-r3-w64" => {
            let mut run = limit::sequential(directory, FILLED_BYTES, seconds).await?;
            run.rate *= 1e6 / (REPLICAS * (appends::RECORD_BYTES + RECORD_MORE_BYTES)) as f64;
            ("the same bytes written raw", run)
        }
        "read-4k-cached" => ("TCP round trip", wire::round_trips(TRIP_BYTES, seconds).await?),
        "read-seq-local" => {
            let client = prepared.over_tcp.as_ref().unwrap_or(client);
            ("the same over TCP", files::read_sequential(client, &prepared.path).await?)
        }
        "read-seq-cached" => ("bare TCP", wire::flood(2 << 30).await?),
        "write-seq-r1" | "write-seq-r3" => {
            ("1 MiB writes + fdatasync", limit::sequential(directory, FILLED_BYTES, seconds).await?)
        }
        _ => ("gRPC echo, 64 at once", echo::calls(TRIP_BYTES, 64, seconds).await?),
    })
}
