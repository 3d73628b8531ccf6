//! `cairn fs rm`.

use std::ffi::{OsStr, OsString};

use cairn_sdk::types::{FsError, FsPath};
use cairn_sdk::{Client, Error, ListingOptions};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use super::remote;
use super::tally::Tally;
use crate::exit::CliError;
use crate::output::object;

/// Files removed at once.
const FILES_AT_ONCE: usize = 32;

pub async fn run(
    client: &Client,
    paths: &[OsString],
    recursive: bool,
    force: bool,
    json: bool,
) -> Result<(), CliError> {
    let mut tally = Tally::over(paths)?;
    for path in paths {
        tally.count(remove(client, path, recursive, force, json).await)?;
    }
    tally.end()
}

async fn remove(
    client: &Client,
    path: &OsStr,
    recursive: bool,
    force: bool,
    json: bool,
) -> Result<(), CliError> {
    let path = remote(path)?;
    let outcome = if recursive { remove_tree(client, &path).await } else { client.unlink(&path).await };
    let removed = match outcome {
        Err(error) if force && error.fs() == Some(&FsError::NotFound) => false,
        outcome => {
            outcome?;
            true
        }
    };
    if json { object(&json!({"path": path.to_string(), "removed": removed})) } else { Ok(()) }
}

/// Removes a tree from its leaves up; what is created in it meanwhile is removed too.
async fn remove_tree(client: &Client, path: &FsPath) -> Result<(), Error> {
    if !client.symlink_stat(path).await?.is_dir() {
        return client.unlink(path).await;
    }
    let mut waiting = vec![(path.clone(), false)];
    while let Some((directory, emptied)) = waiting.pop() {
        if emptied {
            match client.rmdir(&directory).await {
                // Somebody has put something there meanwhile.
                Err(error) if error.fs() == Some(&FsError::NotEmpty) => waiting.push((directory, false)),
                Err(error) if error.fs() == Some(&FsError::NotFound) && directory != *path => {}
                outcome => outcome?,
            }
            continue;
        }
        waiting.push((directory.clone(), true));
        let mut files = Vec::new();
        let mut listing = client.list(&directory, ListingOptions::default());
        while let Some(entry) = listing.next().await? {
            let below = directory.join(entry.name);
            if entry.inode.is_dir() {
                waiting.push((below, false));
                continue;
            }
            files.push(below);
            if files.len() >= 4096 {
                remove_files(client, std::mem::take(&mut files)).await?;
            }
        }
        remove_files(client, files).await?;
    }
    Ok(())
}

async fn remove_files(client: &Client, files: Vec<FsPath>) -> Result<(), Error> {
    let remove = |file: FsPath| async move {
        match client.unlink(&file).await {
            Err(error) if error.fs() == Some(&FsError::NotFound) => Ok(()),
            outcome => outcome,
        }
    };
    stream::iter(files.into_iter().map(remove))
        .buffer_unordered(FILES_AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}
