//! Appends of 4 KiB: one at a time, pipelined, from many writers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_sdk::{Client, Error};
use tokio::task::JoinSet;

use super::metadata::one_loop;
use crate::bench::measure::{Recorder, Run};
use crate::exit::CliError;

/// Bytes of a record.
pub const RECORD_BYTES: usize = 4096;
/// Appends of one writer under way at once.
const IN_FLIGHT: usize = 64;
/// Writers at once, each with a file of its own.
const WRITERS: usize = 64;
/// Appends before the clock starts.
const WARM: usize = 50;

fn record() -> Bytes {
    Bytes::from(vec![7; RECORD_BYTES])
}

/// One append after the other.
pub async fn alone(client: &Client, root: &str, seconds: f64) -> Result<Run, CliError> {
    let log = Arc::new(client.open_append(format!("{root}/wal")).await?);
    let record = record();
    for _ in 0..WARM {
        log.append(record.clone()).await?;
    }
    let own = Arc::clone(&log);
    let run = one_loop(seconds, move |_| {
        let (log, record) = (Arc::clone(&own), record.clone());
        async move { log.append(record).await.map(|_| ()) }
    })
    .await?;
    if let Some(log) = Arc::into_inner(log) {
        log.close().await?;
    }
    Ok(run)
}

/// One writer with many appends under way: each is waited for when as many come after it.
pub async fn pipelined(client: &Client, root: &str, seconds: f64) -> Result<Run, CliError> {
    let log = client.open_append(format!("{root}/wal")).await?;
    let record = record();
    for _ in 0..WARM {
        log.append(record.clone()).await?;
    }
    let mut recorder = Recorder::start();
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let mut under_way = VecDeque::with_capacity(IN_FLIGHT);
    loop {
        let goes_on = Instant::now() < until;
        if goes_on && under_way.len() < IN_FLIGHT {
            under_way.push_back((Instant::now(), log.submit(record.clone()).await?));
            continue;
        }
        let Some((started, answer)) = under_way.pop_front() else { break };
        answer.offset().await?;
        recorder.record(started.elapsed(), 1.0);
    }
    let run = recorder.finish();
    log.close().await?;
    Ok(run)
}

/// Many writers, each at its own file, one append after the other.
pub async fn many_writers(client: &Client, root: &str, seconds: f64) -> Result<Run, CliError> {
    let mut logs = Vec::with_capacity(WRITERS);
    for n in 0..WRITERS {
        let log = client.open_append(format!("{root}/wal-{n}")).await?;
        log.append(record()).await?;
        logs.push(log);
    }
    let mut total = Recorder::start();
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let mut writers = JoinSet::new();
    for log in logs {
        writers.spawn(async move {
            let (mut own, record) = (Recorder::start(), record());
            while Instant::now() < until {
                let started = Instant::now();
                log.append(record.clone()).await?;
                own.record(started.elapsed(), 1.0);
            }
            Ok::<_, Error>((own, log))
        });
    }
    let mut logs = Vec::with_capacity(WRITERS);
    while let Some(ended) = writers.join_next().await {
        let (own, log) = ended??;
        total.merge(&own);
        logs.push(log);
    }
    let run = total.finish();
    for log in logs {
        log.close().await?;
    }
    Ok(run)
}
