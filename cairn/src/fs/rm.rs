//! `cairn fs rm`.

use std::ffi::{OsStr, OsString};

use cairn_sdk::Client;
use cairn_sdk::types::FsError;
use serde_json::json;

use super::remote;
use super::tally::Tally;
use crate::cli::RmArgs;
use crate::exit::CliError;
use crate::output::object;

pub async fn run(client: &Client, args: &RmArgs, json: bool) -> Result<(), CliError> {
    let paths: &[OsString] = &args.paths;
    let mut tally = Tally::over(paths)?;
    for path in paths {
        tally.count(remove(client, path, args, json).await)?;
    }
    tally.end()
}

async fn remove(client: &Client, path: &OsStr, args: &RmArgs, json: bool) -> Result<(), CliError> {
    let path = remote(path)?;
    let outcome = if args.recursive {
        client.remove_all(&path).await
    } else {
        client.unlink(&path).await.map(|()| None)
    };
    let removed = match outcome {
        Err(error) if args.force && error.fs() == Some(&FsError::NotFound) => false,
        outcome => {
            if let Some(tree) = outcome?.filter(|_| args.wait) {
                client.wait_purged(tree).await?;
            }
            true
        }
    };
    if json { object(&json!({"path": path.to_string(), "removed": removed})) } else { Ok(()) }
}
