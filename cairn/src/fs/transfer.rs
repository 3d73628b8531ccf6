//! What `put`, `get` and `cp` have in common: many files, several at once.

use std::time::Instant;

use futures::{StreamExt, stream};
use serde_json::json;

use super::tally::Tally;
use crate::cli::TransferArgs;
use crate::exit::CliError;
use crate::output::{human_bytes, object};
use crate::progress::Progress;

/// Runs `jobs`, so many at once; what fails is counted, the rest goes on.
pub async fn run_all<Job>(
    jobs: impl Iterator<Item = Job>,
    at_once: u16,
    tally: &mut Tally,
) -> Result<(), CliError>
where
    Job: Future<Output = Result<(), CliError>>,
{
    let mut running = stream::iter(jobs).buffer_unordered(usize::from(at_once));
    while let Some(outcome) = running.next().await {
        tally.count(outcome)?;
    }
    Ok(())
}

/// Tells what a transfer came to: `done` is its verb, as in "put 3 files".
pub fn finish(
    done: &str,
    args: &TransferArgs,
    json: bool,
    started: Instant,
    progress: &Progress,
    tally: Tally,
) -> Result<(), CliError> {
    let (files, bytes) = progress.finish();
    let seconds = started.elapsed().as_secs_f64();
    if json {
        let failed = tally.failed();
        object(&json!({"files": files, "bytes": bytes, "seconds": seconds, "failed": failed}))?;
    } else if !args.quiet && args.recursive {
        eprintln!("{done} {files} files, {} in {seconds:.2} s", human_bytes(bytes));
    }
    tally.end()
}
