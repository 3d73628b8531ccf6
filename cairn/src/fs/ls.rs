//! `cairn fs ls`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use cairn_sdk::types::{FsPath, Inode};
use cairn_sdk::{Client, ListingOptions};

use super::remote;
use super::tally::Tally;
use crate::cli::LsArgs;
use crate::exit::CliError;
use crate::output::{inode_json, line, mode_text, object, size_text, time_text};

pub async fn run(client: &Client, args: LsArgs, json: bool) -> Result<(), CliError> {
    let several = args.paths.len() > 1 || args.recursive;
    let mut tally = Tally::over(&args.paths)?;
    for (n, path) in args.paths.iter().enumerate() {
        let heading = (several && !json).then_some(if n > 0 { "\n" } else { "" });
        tally.count(look(client, &args, json, path, heading).await)?;
    }
    tally.end()
}

/// Shows what one argument names; `heading` is what stands before a directory's path, if that is shown.
async fn look(
    client: &Client,
    args: &LsArgs,
    json: bool,
    path: &OsStr,
    heading: Option<&str>,
) -> Result<(), CliError> {
    let path = remote(path)?;
    let inode = client.stat(&path).await?;
    if !inode.is_dir() {
        let name = path.name().map(|n| n.as_bytes().to_vec()).unwrap_or_default();
        return if json {
            object(&inode_json(&path.to_bytes(), &inode, false))
        } else {
            show(args, &name, &inode, false)
        };
    }
    if let Some(gap) = heading {
        line(format!("{gap}{path}:"))?;
    }
    list(client, args, json, &path).await
}

async fn list(client: &Client, args: &LsArgs, json: bool, directory: &FsPath) -> Result<(), CliError> {
    let mut waiting = vec![directory.clone()];
    let mut first = true;
    while let Some(directory) = waiting.pop() {
        if !first && !json {
            line(format!("\n{directory}:"))?;
        }
        let options = ListingOptions {
            start_after: args.start_after.as_ref().filter(|_| first).map(|n| n.as_bytes().to_vec()),
            limit: args.limit,
            ..ListingOptions::default()
        };
        first = false;
        let mut below = Vec::new();
        let mut listing = client.list(&directory, options);
        while let Some(entry) = listing.next().await? {
            let path = directory.join(entry.name.clone());
            if json {
                object(&inode_json(&path.to_bytes(), &entry.inode, entry.growing))?;
            } else {
                show(args, entry.name.as_bytes(), &entry.inode, entry.growing)?;
            }
            if args.recursive && entry.inode.is_dir() {
                below.push(path);
            }
        }
        below.reverse();
        waiting.append(&mut below);
    }
    Ok(())
}

fn show(args: &LsArgs, name: &[u8], inode: &Inode, growing: bool) -> Result<(), CliError> {
    if !args.long {
        return line(name);
    }
    let mut text = format!(
        "{} {:>4} {:>6} {:>6} {:>14} {} ",
        mode_text(inode),
        inode.nlink,
        inode.uid,
        inode.gid,
        size_text(inode),
        time_text(inode.mtime),
    )
    .into_bytes();
    text.extend_from_slice(name);
    if let Some(target) = &inode.target {
        text.extend_from_slice(b" -> ");
        text.extend_from_slice(target);
    }
    if growing {
        text.extend_from_slice(b" (growing)");
    }
    line(text)
}
