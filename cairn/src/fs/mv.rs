//! `cairn fs mv`; across mounts in `across.rs`.

use std::ffi::{OsStr, OsString};

use cairn_sdk::types::{FsError, FsPath};
use cairn_sdk::{Client, RenameMode};
use serde_json::json;

use super::across;
use super::tally::Tally;
use super::{destination, no_directory, remote, sources};
use crate::exit::CliError;
use crate::output::object;

pub async fn run(
    client: &Client,
    paths: &[OsString],
    no_replace: bool,
    exchange: bool,
    json: bool,
) -> Result<(), CliError> {
    let (from, to) = sources(paths)?;
    let mut tally = Tally::over(from)?;
    let to = remote(to)?;
    let mode = match (no_replace, exchange) {
        (_, true) => RenameMode::Exchange,
        (true, _) => RenameMode::NoReplace,
        _ => RenameMode::Replace,
    };
    for source in from {
        if let Some((source, target)) =
            tally.count(rename(client, source, &to, mode, from.len() > 1).await)?
            && json
        {
            object(&json!({"from": source.to_string(), "to": target.to_string()}))?;
        }
    }
    tally.end()
}

async fn rename(
    client: &Client,
    source: &OsStr,
    to: &FsPath,
    mode: RenameMode,
    several: bool,
) -> Result<(FsPath, FsPath), CliError> {
    let source = remote(source)?;
    let name = source.name().map(|n| n.as_bytes());
    let target =
        if mode == RenameMode::Exchange { to.clone() } else { destination(client, to, name).await? };
    if several && target == *to {
        return Err(no_directory(to));
    }
    match client.rename(&source, &target, mode).await {
        Err(error) if error.fs() == Some(&FsError::CrossMount) && mode != RenameMode::Exchange => {
            across::carry(client, &source, &target, mode).await?;
        }
        renamed => renamed?,
    }
    Ok((source, target))
}
