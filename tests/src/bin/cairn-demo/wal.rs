//! Act six: a write-ahead log, and `kill -9` of the metadata leader and of a data node in the middle of it.

use std::time::{Duration, Instant};

use cairn_sdk::Client;
use cairn_sdk::types::NodeId;
use cairn_tests::cluster::{Ledger, Wire, eventually, verify};

use crate::error::DemoError;
use crate::report::{Report, Samples};
use crate::say;
use crate::stage::Stage;
use crate::ticking::{self, Tick};

/// The log.
pub const LOG: &str = "/wal/log";
const BEATS: &str = "/wal/beats";
const RECORD_BYTES: usize = 1024;
/// Records acknowledged before the first kill, and after each kill at least.
const QUIET_RECORDS: u64 = 1_500;
const RECORDS_AFTER_A_KILL: u64 = 750;
/// Directories made after the leader's death at least: proof that another one leads.
const BEATS_AFTER_THE_KILL: u64 = 20;
/// How long the log may be without an open tail: it is rolled now and then.
const TAIL_WITHIN: Duration = Duration::from_secs(10);

/// What the log holds.
pub struct Wal {
    pub bytes: u64,
    /// Positions of the killed servers in the cluster.
    pub dead_meta: usize,
    pub dead_data: usize,
    ledger: Ledger,
}

/// Appends, kills, appends on, and checks the log record by record.
pub async fn append_and_kill(stage: &mut Stage, report: &mut Report) -> Result<Wal, DemoError> {
    say::act(&format!(
        "Appending records of {RECORD_BYTES} bytes to {LOG}, each on 3 disks (fdatasync) before it is acknowledged"
    ));
    let client = stage.client();
    client.mkdir_all(BEATS, 0o755).await?;
    let mut writer = ticking::append(client.open_append(LOG).await?, RECORD_BYTES);
    writer.reach(QUIET_RECORDS).await?;
    say::ok(format!("{} records acknowledged", say::number(writer.count())));

    let mut beats = ticking::make_directories(client.clone(), BEATS);
    beats.reach(BEATS_AFTER_THE_KILL).await?;
    let leader = stage.cluster().leader(&client).await?;
    let leader_killed = Instant::now();
    stage.cluster().metas[leader].kill();
    say::note(format!(
        "kill -9 meta{} (the metadata leader), {} records in",
        leader + 1,
        say::number(writer.count())
    ));
    let (records, made) = (writer.count(), beats.count());
    writer.reach(records + RECORDS_AFTER_A_KILL).await?;
    beats.reach(made + BEATS_AFTER_THE_KILL).await?;
    let beats = beats.stop().await?;
    let new_leader = stage.cluster().leader(&client).await?;
    say::ok(format!(
        "meta{} leads now; {} records acknowledged meanwhile, metadata waited {}",
        new_leader + 1,
        say::number(writer.count() - records),
        say::duration(longest_gap(&beats, leader_killed))
    ));

    let wire = Wire::new(stage.cluster(), &client);
    let tail = eventually("an open tail", TAIL_WITHIN, || async { wire.tail(LOG).await.ok() }).await?;
    let primary = NodeId(tail.primary);
    let data = stage.cluster().data_of(&client, primary).await?;
    let data_killed = Instant::now();
    stage.cluster().datas[data].kill();
    say::note(format!(
        "kill -9 data{} (the primary of the log's open chunk), {} records in",
        data + 1,
        say::number(writer.count())
    ));
    let records = writer.count();
    writer.reach(records + RECORDS_AFTER_A_KILL).await?;
    let (ticks, ledger, appender) = writer.stop().await?;
    say::ok(format!(
        "{} more records on the 2 nodes that are left, after a pause of {}; no call failed",
        say::number(ledger.acknowledged.len() as u64 - records),
        say::duration(longest_gap(&ticks, data_killed))
    ));
    appender.close().await?;
    check_beats(&client, beats.len() as u64).await?;
    let bytes = check(&client, &ledger).await?;
    measured(report, &ticks, &beats, leader_killed, data_killed);
    Ok(Wal { bytes, dead_meta: leader, dead_data: data, ledger })
}

impl Wal {
    /// Reads the whole log once more and compares it with what was acknowledged.
    pub async fn check(&self, client: &Client) -> Result<u64, DemoError> {
        check(client, &self.ledger).await
    }
}

fn measured(
    report: &mut Report,
    ticks: &[Tick],
    beats: &[Tick],
    leader_killed: Instant,
    data_killed: Instant,
) {
    let took = |wanted: &dyn Fn(&Tick) -> bool| {
        Samples::new(ticks.iter().filter(|tick| wanted(tick)).map(|tick| tick.took).collect())
    };
    let quiet = took(&|tick| tick.at < leader_killed);
    let on_two = took(&|tick| tick.at > data_killed);
    let how = format!("{RECORD_BYTES} B, 3 replicas, fsync, one record at a time");
    report.row("append, p50", say::duration(quiet.percentile(50.0)), &how);
    report.row("append, p99", say::duration(quiet.percentile(99.0)), how);
    report.row("append on two nodes, p50", say::duration(on_two.percentile(50.0)), "after the kills");
    let between = ticks.iter().filter(|tick| tick.at < data_killed).copied().collect::<Vec<_>>();
    let how = "longest time without an acknowledged record";
    report.row("appends' pause, leader killed", say::duration(longest_gap(&between, leader_killed)), how);
    report.row("appends' pause, primary killed", say::duration(longest_gap(ticks, data_killed)), how);
    let how = "longest time without a directory made: the election";
    report.row("metadata's pause, leader killed", say::duration(longest_gap(beats, leader_killed)), how);
}

/// The longest time between two ticks that follow each other, from `since` on.
fn longest_gap(ticks: &[Tick], since: Instant) -> Duration {
    let gaps = ticks.windows(2).filter(|pair| pair[1].at > since).map(|pair| pair[1].at - pair[0].at);
    gaps.max().unwrap_or_default()
}

async fn check(client: &Client, ledger: &Ledger) -> Result<u64, DemoError> {
    let file = client.open(LOG).await?;
    let length = file.length();
    let content = file.read_at(0, usize::try_from(length).unwrap_or(usize::MAX)).await?;
    if content.len() as u64 != length {
        return Err(DemoError::Mismatch(format!("{LOG} has {length} bytes, {} were read", content.len())));
    }
    let found = verify(&content, &[ledger]).map_err(|what| DemoError::Mismatch(format!("{LOG}: {what}")))?;
    say::ok(format!(
        "{} records read back: each of the {} acknowledged ones is there once, at its offset, in order",
        say::number(found.len() as u64),
        say::number(ledger.acknowledged.len() as u64)
    ));
    Ok(length)
}

/// Every acknowledged mkdir made one directory.
async fn check_beats(client: &Client, acknowledged: u64) -> Result<(), DemoError> {
    let found = crate::remote::walk(client, BEATS).await?.entries.len() as u64;
    if found != acknowledged {
        let what = format!("{acknowledged} mkdir were acknowledged over the election, {found} are there");
        return Err(DemoError::Mismatch(what));
    }
    say::ok(format!("{} directories made over the election, each once", say::number(found)));
    Ok(())
}
