//! Act five: rename the top directory, with a listing looking on.

use std::time::{Duration, Instant};

use cairn_sdk::types::FsError;
use cairn_sdk::{Client, ListingOptions, RenameMode};
use tokio_util::sync::CancellationToken;

use crate::copy::{self, FIRST_NAME};
use crate::error::DemoError;
use crate::report::{Report, Samples};
use crate::say;
use crate::stage::Stage;
use crate::tree::Tree;

/// What the tree is called afterwards.
const SECOND_NAME: &str = "/archive";
/// Renames there and back; odd, so that the last one leads to [`SECOND_NAME`].
const RENAMES: usize = 21;

/// Renames the tree there and back while somebody lists the directory above it.
pub async fn rename(stage: &Stage, tree: &Tree, report: &mut Report) -> Result<(), DemoError> {
    let below = tree.entries.len() as u64;
    say::act(&format!(
        "Renaming {FIRST_NAME}, with {} entries below it, to {SECOND_NAME}",
        say::number(below)
    ));
    let client = stage.client();
    let stop = CancellationToken::new();
    let onlooker = tokio::spawn(look_on(client.clone(), stop.clone()));
    let mut took = Vec::with_capacity(RENAMES);
    for round in 0..RENAMES {
        let (from, to) = if round % 2 == 0 { (FIRST_NAME, SECOND_NAME) } else { (SECOND_NAME, FIRST_NAME) };
        let started = Instant::now();
        client.rename(from, to, RenameMode::NoReplace).await?;
        took.push(started.elapsed());
    }
    stop.cancel();
    let looks = onlooker.await??;
    let took = Samples::new(took);
    say::ok(format!(
        "one log entry however much lies below: {} (median of {RENAMES}, there and back)",
        say::duration(took.percentile(50.0))
    ));
    say::ok(format!("{} listings of / meanwhile: each saw exactly one of the two names", say::number(looks)));
    match client.stat(FIRST_NAME).await {
        Err(error) if error.fs() == Some(&FsError::NotFound) => {}
        other => return Err(DemoError::Mismatch(format!("{FIRST_NAME} should be gone: {other:?}"))),
    }
    copy::list(stage, tree, SECOND_NAME, None).await?;
    let how = format!("{} entries below it, majority fsync", say::number(below));
    report.row("rename a directory, p50", say::duration(took.percentile(50.0)), &how);
    report.row("rename a directory, slowest", say::duration(took.percentile(100.0)), how);
    Ok(())
}

/// Lists `/` until told to stop: each listing must show one of the two names, never both or neither.
async fn look_on(client: Client, stop: CancellationToken) -> Result<u64, DemoError> {
    let mut looks = 0;
    while !stop.is_cancelled() {
        let mut listing = client.list("/", ListingOptions::default());
        let mut names = Vec::new();
        while let Some(entry) = listing.next().await? {
            let path = format!("/{}", entry.name);
            if path == FIRST_NAME || path == SECOND_NAME {
                names.push(path);
            }
        }
        if names.len() != 1 {
            return Err(DemoError::Mismatch(format!("a listing of / during the rename shows {names:?}")));
        }
        looks += 1;
        // Leaves the renames their turn on a small machine.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(looks)
}
