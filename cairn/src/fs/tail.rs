//! `cairn fs tail`.

use std::time::Duration;

use cairn_sdk::{Client, File};

use super::cat::copy_out;
use super::remote;
use crate::cli::TailArgs;
use crate::exit::CliError;
use crate::output;

/// How often a growing file is asked for its length: there is no event for it yet.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);
/// Bytes looked at from the end, at most, to find the last lines.
const LOOK_BACK_BYTES: u64 = 16 << 20;
const STEP_BYTES: u64 = 64 << 10;

pub async fn run(client: &Client, args: TailArgs) -> Result<(), CliError> {
    let mut file = client.open(remote(&args.path)?.to_bytes()).await?;
    let length = file.length();
    let mut at = match args.bytes {
        Some(bytes) => length.saturating_sub(bytes),
        None => start_of_lines(&file, args.lines).await?,
    };
    loop {
        let length = file.length();
        // A file that was cut is shown from its new end on.
        at = at.min(length);
        copy_out(&file, at, length, output::bytes).await?;
        output::flush()?;
        at = length;
        if !args.follow {
            return Ok(());
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            () = tokio::time::sleep(FOLLOW_EVERY) => {}
        }
        file.refresh().await?;
    }
}

/// The offset of the first of the last `lines` lines.
async fn start_of_lines(file: &File, lines: usize) -> Result<u64, CliError> {
    let length = file.length();
    let mut start = length;
    let mut tail: Vec<u8> = Vec::new();
    loop {
        // A newline at the very end closes the last line.
        let body = tail.strip_suffix(b"\n").unwrap_or(&tail);
        let mut newlines = body.iter().enumerate().rev().filter(|(_, b)| **b == b'\n').map(|(i, _)| i);
        if lines == 0 {
            return Ok(length);
        }
        if let Some(at) = newlines.nth(lines - 1) {
            return Ok(start + at as u64 + 1);
        }
        if start == 0 || length - start >= LOOK_BACK_BYTES {
            return Ok(start);
        }
        let from = start.saturating_sub(STEP_BYTES);
        let mut piece = file.read_at(from, usize::try_from(start - from).unwrap_or(0)).await?.to_vec();
        piece.append(&mut tail);
        tail = piece;
        start = from;
    }
}
