//! Act one: SeaweedFS, 3 metadata servers, 3 data nodes, each a process of its own.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use cairn_sdk::types::Policy;
use cairn_tests::cluster::{Cluster, ClusterOptions, UnderStore};
use cairn_tests::s3_server::S3Server;

use crate::error::DemoError;
use crate::report::{Report, Samples};
use crate::say;
use crate::stage::Stage;
use crate::tree::Tree;

/// The prefix of the cluster's own area in its bucket.
pub const PREFIX: &str = "cairn-demo";
/// Shorter than the default of 30 s, so that nobody waits long for the last packs.
const MAX_LAG: Duration = Duration::from_secs(10);
const SYNC_PROBES: usize = 200;
const SYNC_BYTES: usize = 4096;
/// What statfs(2) says of a file system in memory, where an fsync does nothing.
const TMPFS: i64 = 0x0102_1994;

/// Starts everything and waits until it serves.
pub async fn start(stage: &mut Stage, tree: &Tree, report: &mut Report) -> Result<(), DemoError> {
    say::act("Starting an S3 server, 3 metadata servers and 3 data nodes");
    let directory = stage.directory();
    let sync = fdatasync_cost(&directory)?;
    let in_memory = rustix::fs::statfs(&directory).is_ok_and(|fs| fs.f_type == TMPFS as _);
    let where_ = if in_memory { "tmpfs: an fsync costs nothing here" } else { "the disk all servers share" };
    report.row("one 4 KiB fdatasync, p50", say::duration(sync.percentile(50.0)), where_);
    say::note(format!("directory {} ({where_})", directory.display()));

    let started = Instant::now();
    let s3 = S3Server::seaweed(&directory.join("s3")).await?;
    say::ok(format!("SeaweedFS at {} after {}", s3.endpoint(), say::duration(started.elapsed())));

    let started = Instant::now();
    let max_lag_ms = MAX_LAG.as_millis() as u64;
    // Three replicas of the tree and as much again for what the demo adds.
    let capacity_mib = 1024 + ((3 * tree.bytes) >> 20);
    let options = ClusterOptions {
        policy: Policy { max_lag_ms, ..Policy::cluster() },
        understore: UnderStore::bucket(&s3.bucket(), PREFIX),
        capacity_mib,
        ..ClusterOptions::default()
    };
    stage.bring_s3(s3);
    let home = directory.join("cluster");
    std::fs::create_dir_all(&home).map_err(|e| DemoError::io("make", &home, e))?;
    let cluster = Cluster::start_at(&home, options).await?;
    let ready = started.elapsed();
    let client = cluster.client().await?;
    let status = client.status().await?;
    let alive = status.nodes.iter().filter(|node| node.alive).count();
    say::ok(format!(
        "{} metadata servers (leader {}, term {}) and {alive} data nodes after {}; 3 replicas, at least 2, ack fsync",
        status.servers.len(),
        status.leader,
        status.term,
        say::duration(ready),
    ));
    report.row("cluster of 3 + 3, start to ready", say::duration(ready), "from empty directories");
    stage.bring_cluster(cluster, client);
    Ok(())
}

/// What the disk itself takes for a 4 KiB overwrite of a file that is already written.
fn fdatasync_cost(directory: &Path) -> Result<Samples, DemoError> {
    let path = directory.join("fdatasync-probe");
    let failed = |e| DemoError::io("probe", &path, e);
    let mut file = File::create(&path).map_err(failed)?;
    let block = [0x5a_u8; SYNC_BYTES];
    file.write_all(&vec![0; SYNC_BYTES * SYNC_PROBES]).and_then(|()| file.sync_all()).map_err(failed)?;
    file.rewind().map_err(failed)?;
    let mut took = Vec::with_capacity(SYNC_PROBES);
    for _ in 0..SYNC_PROBES {
        let started = Instant::now();
        file.write_all(&block).and_then(|()| file.sync_data()).map_err(failed)?;
        took.push(started.elapsed());
    }
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(Samples::new(took))
}
