//! Walking a tree of the namespace.

use std::collections::BTreeMap;

use cairn_sdk::types::{FileKind, Inode};
use cairn_sdk::{Client, ListingOptions};
use futures::{StreamExt, TryStreamExt, stream};

use crate::error::DemoError;

/// Directories listed at once.
const AT_ONCE: usize = 16;

/// What was found: paths below the top, with their attributes.
#[derive(Default)]
pub struct Found {
    pub entries: BTreeMap<Vec<u8>, Inode>,
    /// Directories listed, the top among them.
    pub directories: u64,
}

/// Lists everything below `top`, level by level.
pub async fn walk(client: &Client, top: &str) -> Result<Found, DemoError> {
    let mut found = Found::default();
    let mut level = vec![Vec::new()];
    while !level.is_empty() {
        found.directories += level.len() as u64;
        let listed: Vec<Vec<(Vec<u8>, Inode)>> = stream::iter(level.drain(..))
            .map(|relative| list_one(client, top, relative))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        for (path, inode) in listed.into_iter().flatten() {
            if inode.kind == FileKind::Directory {
                level.push(path.clone());
            }
            found.entries.insert(path, inode);
        }
    }
    Ok(found)
}

async fn list_one(client: &Client, top: &str, relative: Vec<u8>) -> Result<Vec<(Vec<u8>, Inode)>, DemoError> {
    let mut listing = client.list(below(top, &relative), ListingOptions::default());
    let mut entries = Vec::new();
    while let Some(entry) = listing.next().await? {
        let mut path = relative.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(entry.name.as_bytes());
        entries.push((path, entry.inode));
    }
    Ok(entries)
}

/// `top` and a path below it.
pub fn below(top: &str, relative: &[u8]) -> Vec<u8> {
    let mut path = top.as_bytes().to_vec();
    if !relative.is_empty() {
        path.push(b'/');
        path.extend_from_slice(relative);
    }
    path
}
