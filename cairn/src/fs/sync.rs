//! `cairn fs sync`.

use std::ffi::{OsStr, OsString};

use cairn_sdk::Client;
use serde_json::json;

use super::remote;
use super::tally::Tally;
use crate::exit::CliError;
use crate::output::object;

pub async fn run(client: &Client, paths: &[OsString], json: bool) -> Result<(), CliError> {
    let mut tally = Tally::over(paths)?;
    for path in paths {
        tally.count(sync(client, path, json).await)?;
    }
    tally.end()
}

async fn sync(client: &Client, path: &OsStr, json: bool) -> Result<(), CliError> {
    let path = remote(path)?;
    client.sync(&path).await?;
    if json { object(&json!({"path": path.to_string(), "synced": true})) } else { Ok(()) }
}
