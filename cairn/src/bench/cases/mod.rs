//! The cases: what each prepares, measures, and compares itself with.

mod files;
mod metadata;

use std::path::Path;

use cairn_sdk::Client;

use super::measure::Run;
use super::{Case, Unit, echo, limit};
use crate::exit::CliError;

/// Every case, in the order in which `all` runs them.
pub const CASES: &[Case] = &[
    case("append-4k-r3-fsync", Unit::Micros, 3, 3, 3, "4 KiB appends, one at a time, 3 replicas, fsync"),
    case("append-4k-r1-fsync", Unit::Micros, 1, 1, 1, "4 KiB appends, one at a time, 1 replica, fsync"),
    case("create-c64-m3", Unit::PerSecond, 3, 1, 1, "empty files, 64 at once, 3 metadata servers"),
    case("list-1m-attrs", Unit::PerSecond, 1, 1, 1, "entries a second of a large directory, with attributes"),
    case("stat-deep8", Unit::PerSecond, 1, 1, 1, "stat of paths 8 levels deep, 64 at once"),
    case("read-4k-cached", Unit::Micros, 1, 1, 1, "random 4 KiB reads, one at a time, from the data node"),
    case("read-seq-cached", Unit::MegabytesPerSecond, 1, 1, 1, "one sequential reader, from the data node"),
    case("write-seq-r1", Unit::MegabytesPerSecond, 1, 1, 1, "one sequential writer, 1 replica, fsync"),
    case("smallfiles-write", Unit::PerSecond, 1, 1, 1, "4 KiB files written and closed, 64 at once"),
];

const fn case(
    name: &'static str,
    unit: Unit,
    metas: usize,
    datas: usize,
    replicas: u8,
    about: &'static str,
) -> Case {
    Case { name, unit, metas, datas, replicas, about }
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
        "list-1m-attrs" => {
            let path = format!("{root}/large");
            metadata::fill(client, &path, scale.entries).await?;
            Ok(Prepared { path })
        }
        "stat-deep8" => {
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
        _ => Ok(None),
    }
}

/// The limit of a run, measured now, and its name.
pub async fn limit(
    name: &str,
    directory: &Path,
    prepared: &Prepared,
    scale: &Scale,
) -> Result<(&'static str, Run), CliError> {
    let _ = prepared;
    let seconds = scale.seconds.min(2.0);
    Ok(match name {
        "append-4k-r3-fsync" => {
            ("fdatasync, 3 writers", limit::fdatasync(directory, 3, 4096, seconds).await?)
        }
        "append-4k-r1-fsync" => ("fdatasync, 1 writer", limit::fdatasync(directory, 1, 4096, seconds).await?),
        "list-1m-attrs" => ("RocksDB iteration", metadata::iterate(directory, scale.entries).await?),
        "read-4k-cached" => ("gRPC echo of 4 KiB", echo::calls(4096, 1, seconds).await?),
        "read-seq-cached" => ("gRPC stream of 1 MiB", echo::flood(1 << 30).await?),
        "write-seq-r1" => ("1 MiB writes + fdatasync", limit::sequential(directory, 1 << 20, seconds).await?),
        _ => ("gRPC echo, 64 at once", echo::calls(128, 64, seconds).await?),
    })
}
