//! `cairn fs mkdir` and `cairn fs ln`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use cairn_sdk::Client;

use super::{destination, remote};
use crate::exit::CliError;

pub async fn directories(
    client: &Client,
    paths: &[OsString],
    parents: bool,
    mode: u32,
) -> Result<(), CliError> {
    for path in paths {
        let path = remote(path)?;
        if parents {
            client.mkdir_all(&path, mode).await?;
        } else {
            client.mkdir(&path, mode).await?;
        }
    }
    Ok(())
}

pub async fn link(client: &Client, to: &OsStr, path: &OsStr, symbolic: bool) -> Result<(), CliError> {
    let name = to.as_bytes().rsplit(|b| *b == b'/').find(|part| !part.is_empty());
    let path = destination(client, &remote(path)?, name).await?;
    if symbolic {
        client.symlink(to.as_bytes(), &path).await?;
    } else {
        client.link(&remote(to)?, &path).await?;
    }
    Ok(())
}
