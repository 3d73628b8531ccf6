//! `cairn fs mkdir` and `cairn fs ln`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use cairn_sdk::Client;

use super::tally::Tally;
use super::{destination, remote};
use crate::exit::CliError;
use crate::output::{inode_json, object};

pub async fn directories(
    client: &Client,
    paths: &[OsString],
    parents: bool,
    mode: u32,
    json: bool,
) -> Result<(), CliError> {
    let mut tally = Tally::over(paths)?;
    for path in paths {
        tally.count(directory(client, path, parents, mode, json).await)?;
    }
    tally.end()
}

async fn directory(
    client: &Client,
    path: &OsStr,
    parents: bool,
    mode: u32,
    json: bool,
) -> Result<(), CliError> {
    let path = remote(path)?;
    let inode =
        if parents { client.mkdir_all(&path, mode).await? } else { client.mkdir(&path, mode).await? };
    if json { object(&inode_json(&path.to_bytes(), &inode, false)) } else { Ok(()) }
}

pub async fn link(
    client: &Client,
    to: &OsStr,
    path: &OsStr,
    symbolic: bool,
    json: bool,
) -> Result<(), CliError> {
    let name = to.as_bytes().rsplit(|b| *b == b'/').find(|part| !part.is_empty());
    let path = destination(client, &remote(path)?, name).await?;
    let inode = if symbolic {
        client.symlink(to.as_bytes(), &path).await?
    } else {
        client.link(&remote(to)?, &path).await?
    };
    if json { object(&inode_json(&path.to_bytes(), &inode, false)) } else { Ok(()) }
}
