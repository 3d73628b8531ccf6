//! `cairn fs cp`: through this process; a copy that shares extents is not there yet.

use std::ffi::OsString;

use cairn_sdk::types::{FsError, FsPath, Inode};
use cairn_sdk::{Client, ListingOptions};

use super::{destination, remote, sources};
use crate::exit::CliError;

const PIECE_BYTES: usize = 4 << 20;

pub async fn run(client: &Client, paths: &[OsString], recursive: bool) -> Result<(), CliError> {
    let (from, to) = sources(paths)?;
    let to = remote(to)?;
    for source in from {
        let source = remote(source)?;
        let inode = client.stat(&source).await?;
        let base = destination(client, &to, source.name().map(|n| n.as_bytes())).await?;
        if from.len() > 1 && base == to {
            return Err(CliError::Usage(format!("{to} is not a directory, and there are several sources")));
        }
        if inode.is_dir() && !recursive {
            return Err(CliError::Usage(format!("{source} is a directory: use -r")));
        }
        if base.starts_with(&source) {
            return Err(CliError::Usage(format!("{source} cannot be copied onto or into itself")));
        }
        copy_tree(client, source, inode, base).await?;
    }
    Ok(())
}

async fn copy_tree(client: &Client, from: FsPath, inode: Inode, to: FsPath) -> Result<(), CliError> {
    let mut waiting = vec![(from, inode, to)];
    while let Some((from, inode, to)) = waiting.pop() {
        if let Some(target) = &inode.target {
            client.symlink(target, &to).await?;
            continue;
        }
        if !inode.is_dir() {
            copy_file(client, &from, &inode, &to).await?;
            continue;
        }
        match client.mkdir(&to, inode.mode).await {
            Err(error) if error.fs() == Some(&FsError::Exists) => {}
            outcome => outcome.map(|_| ())?,
        }
        let mut listing = client.list(&from, ListingOptions::default());
        while let Some(entry) = listing.next().await? {
            waiting.push((from.join(entry.name.clone()), entry.inode, to.join(entry.name)));
        }
    }
    Ok(())
}

async fn copy_file(client: &Client, from: &FsPath, inode: &Inode, to: &FsPath) -> Result<(), CliError> {
    let mut file = client.open(from).await?;
    let mut writer = client.put_writer(to, inode.mode).await?;
    loop {
        let piece = file.read(PIECE_BYTES).await?;
        if piece.is_empty() {
            break;
        }
        writer.write(&piece).await?;
    }
    writer.finish().await?;
    Ok(())
}
