//! The cases: what each prepares, measures, and compares itself with.

mod files;
pub mod metadata;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_sdk::Client;

use super::measure::Run;
use super::{Case, Setting, Unit, echo, limit};
use crate::exit::CliError;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Every case, in the order in which `all` runs them.
pub const CASES: &[Case] = &[
    case("append-4k-r3-fsync", Unit::Micros, on(3, 3, 3), "4 KiB appends, one at a time, 3 replicas, fsync"),
    case("append-4k-r1-fsync", Unit::Micros, on(1, 1, 1), "4 KiB appends, one at a time, 1 replica, fsync"),
    case("create-c64-m3", Unit::PerSecond, on(3, 0, 1), "empty files, 64 at once, 3 metadata servers"),
    case("create-txn100-m3", Unit::PerSecond, on(3, 0, 1), "empty files, 100 to a transaction, 64 at once"),
    case("create-c1-m3", Unit::Micros, on(3, 0, 1), "empty files, one at a time, 3 metadata servers"),
    case("rename-dir-1m", Unit::Micros, on(1, 0, 1), "renames of a large directory, beside an empty one"),
    case(
        "list-1m-attrs",
        Unit::PerSecond,
        on(1, 0, 1),
        "entries a second of a large directory, with attributes",
    ),
    case(
        "list-10m-attrs",
        Unit::PerSecond,
        Setting::Kept,
        "the same of ten times as many, and the memory it takes",
    ),
    case("create-in-10m", Unit::Micros, Setting::Kept, "empty files in that directory, one at a time"),
    case("inode-bytes-10m", Unit::Bytes, Setting::Kept, "bytes of the state on disk for each file of it"),
    case("restart-10m", Unit::Micros, Setting::Kept, "its server killed and started, until it answers"),
    case(
        "failover-leader",
        Unit::Micros,
        Setting::Killed,
        "the leader killed, until a change is acknowledged",
    ),
    case("stat-deep8", Unit::PerSecond, on(1, 1, 1), "stat of a path 8 levels deep, 64 at once"),
    case("stat-deep8-many", Unit::PerSecond, on(1, 1, 1), "the same, 512 to a call"),
    case("stat-deep8-c1-lease", Unit::Micros, on(1, 1, 1), "the same one at a time, by the leader's lease"),
    case(
        "read-4k-cached",
        Unit::Micros,
        on(1, 1, 1),
        "random 4 KiB reads, one at a time, from the data node",
    ),
    case(
        "read-seq-cached",
        Unit::MegabytesPerSecond,
        on(1, 1, 1),
        "one sequential reader, from the data node",
    ),
    case("write-seq-r1", Unit::MegabytesPerSecond, on(1, 1, 1), "one sequential writer, 1 replica, fsync"),
    case("smallfiles-write", Unit::PerSecond, on(1, 1, 1), "4 KiB files written and closed, 64 at once"),
];

const fn case(name: &'static str, unit: Unit, setting: Setting, about: &'static str) -> Case {
    Case { name, unit, setting, about }
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
}

/// Makes what the case needs.
pub async fn prepare(name: &str, client: &Client, root: &str, scale: &Scale) -> Result<Prepared, CliError> {
    match name {
        "list-1m-attrs" | "rename-dir-1m" => {
            let path = format!("{root}/large");
            metadata::fill_by_transactions(client, &path, scale.entries).await?;
            Ok(Prepared { path })
        }
        "stat-deep8" | "stat-deep8-many" | "stat-deep8-c1-lease" => {
            let path = format!("{root}/1/2/3/4/5/6");
            client.mkdir_all(path.as_str(), 0o755).await?;
            let path = format!("{path}/file");
            client.put(path.as_str(), 0o644, b"x").await?;
            Ok(Prepared { path })
        }
        "read-4k-cached" | "read-seq-cached" => {
            let path = format!("{root}/data");
            files::fill(client, &path).await?;
            Ok(Prepared { path })
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
        "append-4k-r3-fsync" | "append-4k-r1-fsync" => files::append(client, root, scale.seconds).await,
        "create-c64-m3" => metadata::create(client, root, scale.seconds).await,
        "create-txn100-m3" => metadata::create_in_transactions(client, root, scale.seconds).await,
        "create-c1-m3" => metadata::create_alone(client, root, scale.seconds).await,
        "rename-dir-1m" => metadata::rename(client, &prepared.path).await,
        "stat-deep8-many" => metadata::stat_many(client, &prepared.path, scale.seconds).await,
        "stat-deep8-c1-lease" => metadata::stat_alone(client, &prepared.path, scale.seconds).await,
        "list-1m-attrs" => metadata::list(client, &prepared.path).await,
        "stat-deep8" => metadata::stat(client, &prepared.path, scale.seconds).await,
        "read-4k-cached" => files::read_random(client, &prepared.path, scale.seconds).await,
        "read-seq-cached" => files::read_sequential(client, &prepared.path).await,
        "write-seq-r1" => files::write_sequential(client, root).await,
        "smallfiles-write" => files::small(client, root, scale.seconds).await,
        other => Err(CliError::Usage(format!("no bench is named '{other}'"))),
    }
}

/// What a gRPC call costs at the same moment, for the cases whose aim counts in echoes: an append is
/// a call of the client, and with replicas calls of the primary.
pub async fn echo(name: &str, scale: &Scale) -> Result<Option<Run>, CliError> {
    match name {
        "append-4k-r3-fsync" | "append-4k-r1-fsync" => {
            echo::calls(4096, 1, scale.seconds.min(2.0)).await.map(Some)
        }
        "create-c1-m3" => echo::calls(128, 1, scale.seconds.min(2.0)).await.map(Some),
        _ => Ok(None),
    }
}

/// The limit of a run, measured now, and its name.
pub async fn limit(
    name: &str,
    client: &Client,
    directory: &Path,
    root: &str,
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
        "stat-deep8-c1-lease" => ("gRPC echo", echo::calls(128, 1, seconds).await?),
        "list-1m-attrs" => ("RocksDB iteration", metadata::iterate(directory, scale.entries).await?),
        "read-4k-cached" => ("gRPC echo of 4 KiB", echo::calls(4096, 1, seconds).await?),
        "read-seq-cached" => ("gRPC stream of 1 MiB", echo::flood(1 << 30).await?),
        "write-seq-r1" => ("1 MiB writes + fdatasync", limit::sequential(directory, 1 << 20, seconds).await?),
        _ => ("gRPC echo, 64 at once", echo::calls(128, 64, seconds).await?),
    })
}
