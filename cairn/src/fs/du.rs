//! `cairn fs du`.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};

use cairn_sdk::types::FsPath;
use cairn_sdk::{Client, ListingOptions};
use serde_json::json;

use super::remote;
use super::tally::Tally;
use crate::exit::CliError;
use crate::output::line;

pub async fn run(client: &Client, paths: &[OsString], summarize: bool, json: bool) -> Result<(), CliError> {
    let mut tally = Tally::over(paths)?;
    for path in paths {
        tally.count(measure(client, path, summarize, json).await)?;
    }
    tally.end()
}

async fn measure(client: &Client, path: &OsStr, summarize: bool, json: bool) -> Result<(), CliError> {
    let path = remote(path)?;
    let mut seen = HashSet::new();
    let total = add_up(client, &path, summarize, json, &mut seen).await?;
    if summarize || total.0.is_some() { show(&path, total.1, total.2, json) } else { Ok(()) }
}

fn show(path: &FsPath, bytes: u64, files: u64, json: bool) -> Result<(), CliError> {
    if json {
        return line(json!({"path": path.to_string(), "bytes": bytes, "files": files}).to_string());
    }
    let mut text = format!("{bytes}\t").into_bytes();
    text.extend(path.to_bytes());
    line(text)
}

/// The sums of a path, each hard-linked file counted once; first field: it is a plain file.
async fn add_up(
    client: &Client,
    path: &FsPath,
    summarize: bool,
    json: bool,
    seen: &mut HashSet<u64>,
) -> Result<(Option<()>, u64, u64), CliError> {
    let inode = client.symlink_stat(path).await?;
    if !inode.is_dir() {
        return Ok((Some(()), inode.size, 1));
    }
    // Each directory's own sums; a directory is finished after those below it.
    let mut open: Vec<(FsPath, u64, u64, Vec<FsPath>)> = vec![scan(client, path, seen).await?];
    let mut total = (None, 0, 0);
    while let Some((directory, bytes, files, mut below)) = open.pop() {
        if let Some(next) = below.pop() {
            open.push((directory, bytes, files, below));
            open.push(scan(client, &next, seen).await?);
            continue;
        }
        if !summarize {
            show(&directory, bytes, files, json)?;
        }
        match open.last_mut() {
            Some(above) => {
                above.1 += bytes;
                above.2 += files;
            }
            None => total = (None, bytes, files),
        }
    }
    Ok(total)
}

async fn scan(
    client: &Client,
    path: &FsPath,
    seen: &mut HashSet<u64>,
) -> Result<(FsPath, u64, u64, Vec<FsPath>), CliError> {
    let (mut bytes, mut files, mut below) = (0, 0, Vec::new());
    let mut listing = client.list(path, ListingOptions::default());
    while let Some(entry) = listing.next().await? {
        if entry.inode.is_dir() {
            below.push(path.join(entry.name));
        } else if entry.inode.nlink <= 1 || seen.insert(entry.inode.ino.0) {
            bytes += entry.inode.size;
            files += 1;
        }
    }
    below.reverse();
    Ok((path.clone(), bytes, files, below))
}
