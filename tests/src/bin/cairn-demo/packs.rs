//! Act seven: the lag drains, and the bucket holds everything in packs.

use std::time::{Duration, Instant};

use cairn_sdk::StatusReply;

use crate::error::DemoError;
use crate::report::Report;
use crate::say;
use crate::stage::Stage;
use crate::start::PREFIX;
use crate::wal::LOG;

/// How long the lag may take to drain.
const DRAIN_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Packs shown by name.
const SHOWN: usize = 4;

/// Waits for lag 0, then lists the bucket with an S3 client of its own.
pub async fn drain_and_show(stage: &Stage, written: u64, report: &mut Report) -> Result<(), DemoError> {
    say::act("Waiting until everything is in the bucket");
    let client = stage.client();
    let before = client.status().await?;
    say::note(format!(
        "lag now: {} bytes, the oldest {} old",
        say::number(before.lag_bytes),
        say::duration(Duration::from_millis(before.lag_age_ms))
    ));
    let started = Instant::now();
    client.sync(LOG).await?;
    let status = drained(stage, started).await?;
    let took = started.elapsed();
    say::ok(format!("lag 0 after {}", say::duration(took)));
    if before.lag_bytes > 0 {
        let what = format!("{} to go, 1 of 3 data nodes dead", say::megabytes(before.lag_bytes));
        report.row("lag drain", say::duration(took), what);
    }

    let packs = packs(stage).await?;
    let bytes: u64 = packs.iter().map(|(_, size)| size).sum();
    let bucket = stage.s3().bucket();
    for (key, size) in packs.iter().take(SHOWN) {
        say::note(format!("{}  {}", bucket.url(key), say::megabytes(*size)));
    }
    if packs.len() > SHOWN {
        say::note(format!("... and {} more", packs.len() - SHOWN));
    }
    if bytes < written {
        let what = format!("{written} bytes were written, the packs in the bucket have {bytes}");
        return Err(DemoError::Mismatch(what));
    }
    if status.packs > packs.len() as u64 {
        let what = format!("the metadata knows {} packs, the bucket has {}", status.packs, packs.len());
        return Err(DemoError::Mismatch(what));
    }
    say::ok(format!(
        "{} packs, {}, for {} written",
        say::number(packs.len() as u64),
        say::megabytes(bytes),
        say::megabytes(written)
    ));
    let mean = bytes / (packs.len() as u64).max(1);
    let how = format!("{} each on average", say::megabytes(mean));
    report.row("packs in the bucket", say::number(packs.len() as u64), how);
    Ok(())
}

async fn drained(stage: &Stage, started: Instant) -> Result<StatusReply, DemoError> {
    let client = stage.client();
    loop {
        let status = client.status().await?;
        if status.lag_bytes == 0 {
            return Ok(status);
        }
        if started.elapsed() > DRAIN_WITHIN {
            let why = match status.under_store_error.as_str() {
                "" => String::new(),
                error => format!("; the last upload's failure: {error}"),
            };
            let what = format!("lag 0; it is {} bytes{why}", status.lag_bytes);
            return Err(DemoError::Late { what, seconds: DRAIN_WITHIN.as_secs() });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Keys and sizes of the objects in the cluster's own area.
async fn packs(stage: &Stage) -> Result<Vec<(String, u64)>, DemoError> {
    let bucket = stage.s3().bucket();
    let listed = bucket.client().list_objects_v2().bucket(bucket.name()).prefix(format!("{PREFIX}/"));
    let mut pages = listed.into_paginator().send();
    let mut packs = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| DemoError::s3("list the bucket", error))?;
        for object in page.contents() {
            let size = object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
            packs.push((object.key().unwrap_or_default().to_owned(), size));
        }
    }
    Ok(packs)
}
