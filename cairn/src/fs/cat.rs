//! `cairn fs cat`.

use std::ffi::{OsStr, OsString};

use cairn_sdk::{Client, File};
use futures::{StreamExt, TryStreamExt, stream};

use super::remote;
use super::tally::Tally;
use crate::exit::CliError;
use crate::output;

/// Bytes in one read.
const PIECE_BYTES: u64 = 4 << 20;
/// Reads under way at once.
const PIECES_AT_ONCE: usize = 4;

pub async fn run(
    client: &Client,
    paths: &[OsString],
    offset: u64,
    length: Option<u64>,
) -> Result<(), CliError> {
    let end = length.map_or(u64::MAX, |l| offset.saturating_add(l));
    let mut tally = Tally::over(paths)?;
    for path in paths {
        tally.count(show(client, path, offset, end).await)?;
    }
    tally.end()
}

/// Writes `[from, until)` of the file at `path` to standard output.
pub async fn show(client: &Client, path: &OsStr, from: u64, until: u64) -> Result<(), CliError> {
    let file = client.open(remote(path)?.to_bytes()).await?;
    copy_out(&file, from, until, output::bytes).await
}

/// Reads `[from, until)` of a file, several pieces ahead, and hands each piece over in order.
pub async fn copy_out(
    file: &File,
    from: u64,
    until: u64,
    mut take: impl FnMut(&[u8]) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let until = until.min(file.length());
    let starts = (0..).map(|n| from + n * PIECE_BYTES).take_while(|at| *at < until);
    let read = |at: u64| async move {
        let length = usize::try_from(PIECE_BYTES.min(until - at)).unwrap_or(0);
        file.read_at(at, length).await
    };
    let mut pieces = stream::iter(starts.map(read)).buffered(PIECES_AT_ONCE);
    while let Some(piece) = pieces.try_next().await? {
        take(&piece)?;
    }
    Ok(())
}
