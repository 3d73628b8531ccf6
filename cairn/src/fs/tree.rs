//! `cairn fs tree`.

use std::ffi::OsStr;

use cairn_sdk::types::FsPath;
use cairn_sdk::{Client, ListingEntry, ListingOptions};

use super::remote;
use crate::exit::CliError;
use crate::output::{inode_json, line, object};

struct Level {
    path: FsPath,
    prefix: String,
    entries: std::vec::IntoIter<ListingEntry>,
}

pub async fn run(client: &Client, path: &OsStr, depth: Option<usize>, json: bool) -> Result<(), CliError> {
    let root = remote(path)?;
    if !json {
        line(root.to_bytes())?;
    }
    let (mut directories, mut files) = (0u64, 0u64);
    let mut levels = vec![open(client, &root, String::new()).await?];
    while let Some(level) = levels.last_mut() {
        let Some(entry) = level.entries.next() else {
            levels.pop();
            continue;
        };
        let last = level.entries.as_slice().is_empty();
        if json {
            let path = level.path.join(entry.name.clone());
            let mut shown = inode_json(&path.to_bytes(), &entry.inode, entry.growing);
            shown["depth"] = levels.len().into();
            object(&shown)?;
        } else {
            show(&level.prefix, &entry, last)?;
        }
        if !entry.inode.is_dir() {
            files += 1;
            continue;
        }
        directories += 1;
        if depth.is_none_or(|depth| levels.len() < depth) {
            let Some(level) = levels.last() else { break };
            let prefix = format!("{}{}", level.prefix, if last { "    " } else { "│   " });
            let path = level.path.join(entry.name);
            levels.push(open(client, &path, prefix).await?);
        }
    }
    if json { Ok(()) } else { line(format!("\n{directories} directories, {files} files")) }
}

fn show(prefix: &str, entry: &ListingEntry, last: bool) -> Result<(), CliError> {
    let mut text = format!("{prefix}{}", if last { "└── " } else { "├── " }).into_bytes();
    text.extend_from_slice(entry.name.as_bytes());
    if let Some(target) = &entry.inode.target {
        text.extend_from_slice(b" -> ");
        text.extend_from_slice(target);
    }
    line(text)
}

async fn open(client: &Client, path: &FsPath, prefix: String) -> Result<Level, CliError> {
    let mut entries = Vec::new();
    let mut listing = client.list(path, ListingOptions::default());
    while let Some(entry) = listing.next().await? {
        entries.push(entry);
    }
    Ok(Level { path: path.clone(), prefix, entries: entries.into_iter() })
}
