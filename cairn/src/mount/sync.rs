//! `cairn mount sync`.

use std::time::Instant;

use cairn_sdk::{Client, SyncOptions};
use serde_json::json;

use crate::cli::MountSyncArgs;
use crate::exit::CliError;
use crate::fs::remote;
use crate::output::{human_bytes, line, object};
use crate::progress::spinner;

pub async fn run(client: &Client, args: &MountSyncArgs, json: bool) -> Result<(), CliError> {
    let path = remote(&args.path)?;
    let began = Instant::now();
    let bar = if json { None } else { spinner() };
    let options = SyncOptions { recursive: !args.shallow, at_once: usize::from(args.jobs) };
    let outcome = client.mount_sync(path.to_bytes(), options, |sum| {
        if let Some(bar) = &bar {
            let rate = rate(sum.files, began);
            bar.set_message(format!(
                "{} directories, {} files, {}, {rate:.0} files/s; {} directories wait",
                sum.directories,
                sum.files,
                human_bytes(sum.bytes),
                sum.waiting
            ));
        }
    });
    let outcome = outcome.await;
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let sum = outcome?;
    let seconds = began.elapsed().as_secs_f64();
    if json {
        return object(&json!({
            "path": path.to_string(), "directories": sum.directories, "files": sum.files, "bytes": sum.bytes,
            "seconds": seconds,
        }));
    }
    line(format!(
        "read {} directories, {} files, {} in {seconds:.2} s ({:.0} files/s)",
        sum.directories,
        sum.files,
        human_bytes(sum.bytes),
        rate(sum.files, began)
    ))
}

fn rate(files: u64, began: Instant) -> f64 {
    files as f64 / began.elapsed().as_secs_f64().max(0.001)
}
