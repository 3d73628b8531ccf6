//! Data cases.

use std::sync::Arc;
use std::time::Instant;

use cairn_sdk::Client;
use futures::StreamExt;

use super::metadata::{loops, one_loop};
use crate::bench::measure::{Recorder, Run};
use crate::exit::CliError;

/// Bytes of the file that is read and written.
const FILE_BYTES: u64 = 512 << 20;
const PIECE_BYTES: usize = 4 << 20;
/// Small files that are read, and their bytes.
const SMALL_FILES: u64 = 20_000;
pub const SMALL_BYTES: usize = 4096;
/// Small files that are made at once.
const FILLING: usize = 64;

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
    let file = Arc::new(client.open(path).await?);
    let blocks = file.length() / 4096;
    one_loop(seconds, move |n| {
        // Knuth's multiplicative hash: offsets without an order.
        let (file, at) = (Arc::clone(&file), n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33);
        async move { file.read_at(at % blocks * 4096, 4096).await.map(|_| ()) }
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
        let (client, path) = (client.clone(), small_path(&root, n));
        async move { client.put(path, 0o644, [7; SMALL_BYTES]).await.map(|_| ()) }
    })
    .await
}

/// The path of a small file.
pub fn small_path(root: &str, n: u64) -> String {
    format!("{root}/f{n:09}")
}

/// Makes the small files that are read.
pub async fn fill_small(client: &Client, root: &str) -> Result<(), CliError> {
    fill_small_files(client, root, SMALL_FILES).await
}

/// Makes `files` small files.
pub async fn fill_small_files(client: &Client, root: &str, files: u64) -> Result<(), CliError> {
    client.mkdir_all(root, 0o755).await?;
    let puts = (0..files).map(|n| client.put(small_path(root, n), 0o644, [7; SMALL_BYTES]));
    let mut made = futures::stream::iter(puts).buffer_unordered(FILLING);
    while let Some(put) = made.next().await {
        put?;
    }
    Ok(())
}

/// Files of 4 KiB in no order, each opened and read whole.
pub async fn read_small(client: &Client, root: &str, seconds: f64) -> Result<Run, CliError> {
    let (client, root) = (client.clone(), root.to_owned());
    loops(seconds, move |n| {
        // A step that has no divisor with their count: every file once before any is read again.
        let (client, path) = (client.clone(), small_path(&root, n * 7_919 % SMALL_FILES));
        async move {
            let read = client.open(path).await?.read_at(0, SMALL_BYTES).await?;
            assert_eq!(read.len(), SMALL_BYTES, "a file of {SMALL_BYTES} bytes");
            Ok(())
        }
    })
    .await
}
