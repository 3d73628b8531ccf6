//! `cairn fs ls`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use cairn_sdk::types::{FsPath, Inode};
use cairn_sdk::{Client, ListingOptions, TreeOptions};

use super::tally::Tally;
use super::{below, remote};
use crate::cli::LsArgs;
use crate::exit::CliError;
use crate::output::{inode_json, line, mode_text, object, size_text, time_text};

pub async fn run(client: &Client, args: LsArgs, json: bool) -> Result<(), CliError> {
    let several = args.paths.len() > 1;
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
    if args.recursive {
        list_tree(client, args, json, &path).await
    } else {
        list(client, args, json, &path).await
    }
}

/// What `--start-after` and `--prefix` say.
fn bytes(text: Option<&std::ffi::OsString>) -> Vec<u8> {
    text.map(|text| text.as_bytes().to_vec()).unwrap_or_default()
}

async fn list(client: &Client, args: &LsArgs, json: bool, directory: &FsPath) -> Result<(), CliError> {
    let options = ListingOptions {
        start_after: args.start_after.as_ref().map(|name| name.as_bytes().to_vec()),
        prefix: bytes(args.prefix.as_ref()),
        limit: args.limit,
        ..ListingOptions::default()
    };
    let mut listing = client.list(directory, options);
    while let Some(entry) = listing.next().await? {
        if json {
            let path = directory.join(entry.name);
            object(&inode_json(&path.to_bytes(), &entry.inode, entry.growing))?;
        } else {
            show(args, entry.name.as_bytes(), &entry.inode, entry.growing)?;
        }
    }
    Ok(())
}

/// All that lies below, each by its path from the directory.
async fn list_tree(client: &Client, args: &LsArgs, json: bool, directory: &FsPath) -> Result<(), CliError> {
    let options = TreeOptions {
        start_after: bytes(args.start_after.as_ref()),
        prefix: bytes(args.prefix.as_ref()),
        limit: args.limit,
        ..TreeOptions::default()
    };
    let mut listing = client.list_tree(directory, options);
    while let Some(entry) = listing.next().await? {
        let Some(inode) = &entry.inode else { continue };
        if json {
            object(&inode_json(&below(directory, &entry.path), inode, entry.growing))?;
        } else {
            show(args, &entry.path, inode, entry.growing)?;
        }
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
