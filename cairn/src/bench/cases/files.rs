//! Data cases.

use std::time::Instant;

use bytes::Bytes;
use cairn_sdk::Client;

use super::metadata::{loops, one_loop};
use crate::bench::measure::{Recorder, Run};
use crate::exit::CliError;

/// Bytes of the file that is read and written.
const FILE_BYTES: u64 = 512 << 20;
const PIECE_BYTES: usize = 4 << 20;

/// One append after the other.
pub async fn append(client: &Client, root: &str, seconds: f64) -> Result<Run, CliError> {
    let log = client.open_append(format!("{root}/wal")).await?;
    let record = Bytes::from(vec![7; 4096]);
    for _ in 0..50 {
        log.append(record.clone()).await?;
    }
    let run = one_loop(seconds, async |_| log.append(record.clone()).await.map(|_| ())).await?;
    log.close().await?;
    Ok(run)
}

/// Writes the file that the read cases read.
pub async fn fill(client: &Client, path: &str) -> Result<(), CliError> {
    let mut writer = client.put_writer(path, 0o644).await?;
    let piece = pattern();
    for _ in 0..FILE_BYTES / PIECE_BYTES as u64 {
        writer.write(&piece).await?;
    }
    writer.finish().await?;
    Ok(())
}

fn pattern() -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..PIECE_BYTES).map(|_| next()).collect()
}

/// 4 KiB at aligned offsets in no order.
pub async fn read_random(client: &Client, path: &str, seconds: f64) -> Result<Run, CliError> {
    let file = client.open(path).await?;
    let blocks = file.length() / 4096;
    let mut at = 1u64;
    one_loop(seconds, async |_| {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        file.read_at((at >> 33) % blocks * 4096, 4096).await.map(|_| ())
    })
    .await
}

/// The whole file, several pieces ahead.
pub async fn read_sequential(client: &Client, path: &str) -> Result<Run, CliError> {
    let file = client.open(path).await?;
    let mut recorder = Recorder::start();
    let mut last = Instant::now();
    crate::fs::copy_out(&file, 0, u64::MAX, |piece| {
        recorder.record(last.elapsed(), piece.len() as f64 / 1e6);
        last = Instant::now();
        Ok(())
    })
    .await?;
    Ok(recorder.finish())
}

/// A whole new file.
pub async fn write_sequential(client: &Client, root: &str) -> Result<Run, CliError> {
    let mut writer = client.put_writer(format!("{root}/data"), 0o644).await?;
    let piece = pattern();
    let mut recorder = Recorder::start();
    for _ in 0..FILE_BYTES / PIECE_BYTES as u64 {
        let started = Instant::now();
        writer.write(&piece).await?;
        recorder.record(started.elapsed(), piece.len() as f64 / 1e6);
    }
    writer.finish().await?;
    Ok(recorder.finish())
}

/// Files of 4 KiB, each one append and one entry.
pub async fn small(client: &Client, root: &str, seconds: f64) -> Result<Run, CliError> {
    let (client, root) = (client.clone(), root.to_owned());
    loops(seconds, move |n| {
        let (client, path) = (client.clone(), format!("{root}/f{n:09}"));
        async move { client.put(path, 0o644, [7; 4096]).await.map(|_| ()) }
    })
    .await
}
