//! `cairn fs cp --reflink`: copies that share their bytes.

use std::ffi::OsStr;

use cairn_sdk::Client;
use cairn_sdk::types::{FsPath, Inode};
use serde_json::json;

use super::tally::Tally;
use super::{destination, is_directory, no_directory, remote, sources};
use crate::cli::TransferArgs;
use crate::exit::CliError;
use crate::output::object;

/// Clones each source in one step of its own: a file, or with -r a whole tree as it is at one point
/// in time.
pub async fn run(client: &Client, args: &TransferArgs, json: bool) -> Result<(), CliError> {
    let (from, to) = sources(&args.paths)?;
    let mut tally = Tally::over(from)?;
    let to = remote(to)?;
    for source in from {
        let cloned = clone(client, source, &to, from.len() > 1, args.recursive).await;
        if let Some((source, target, inode)) = tally.count(cloned)?
            && json
        {
            let (from, to) = (source.to_string(), target.to_string());
            object(&json!({"from": from, "to": to, "ino": inode.ino.0, "size": inode.size}))?;
        }
    }
    tally.end()
}

async fn clone(
    client: &Client,
    source: &OsStr,
    to: &FsPath,
    several: bool,
    recursive: bool,
) -> Result<(FsPath, FsPath, Inode), CliError> {
    let source = remote(source)?;
    let is_dir = client.stat(&source).await?.is_dir();
    if is_dir && !recursive {
        return Err(is_directory(source));
    }
    let target = destination(client, to, source.name().map(|n| n.as_bytes())).await?;
    if several && target == *to {
        return Err(no_directory(to));
    }
    let inode = if is_dir {
        client.clone_tree(&source, &target).await?
    } else {
        client.clone_file(&source, &target, true).await?
    };
    Ok((source, target, inode))
}
