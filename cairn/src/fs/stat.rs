//! `cairn fs stat`.

use std::ffi::{OsStr, OsString};

use cairn_sdk::Client;
use cairn_sdk::types::{FsPath, Inode};

use super::remote;
use super::tally::Tally;
use crate::exit::CliError;
use crate::output::{inode_json, line, mode_text, object, time_text};

pub async fn run(client: &Client, paths: &[OsString], json: bool, no_follow: bool) -> Result<(), CliError> {
    let mut tally = Tally::over(paths)?;
    for path in paths {
        if let Some((path, inode)) = tally.count(look(client, path, no_follow).await)? {
            if json {
                object(&inode_json(&path.to_bytes(), &inode, false))?;
            } else {
                show(&path, &inode)?;
            }
        }
    }
    tally.end()
}

async fn look(client: &Client, path: &OsStr, no_follow: bool) -> Result<(FsPath, Inode), CliError> {
    let path = remote(path)?;
    let inode = if no_follow { client.symlink_stat(&path).await? } else { client.stat(&path).await? };
    Ok((path, inode))
}

fn show(path: &FsPath, inode: &Inode) -> Result<(), CliError> {
    line(format!("  path: {path}"))?;
    if let Some(target) = &inode.target {
        line(format!("    to: {}", String::from_utf8_lossy(target)))?;
    }
    line(format!("  kind: {}", inode.kind.word()))?;
    if let Some(device) = inode.kind.device() {
        line(format!("device: {}, {}", device.major, device.minor))?;
    }
    let growing = if inode.tail.is_some() { " (growing)" } else { "" };
    line(format!("  size: {}{growing}", inode.size))?;
    line(format!(
        "  mode: {} ({:04o})  uid: {}  gid: {}",
        mode_text(inode),
        inode.mode,
        inode.uid,
        inode.gid
    ))?;
    line(format!(" inode: {}  links: {}  version: {}", inode.ino.0, inode.nlink, inode.version))?;
    line(format!("modify: {}", time_text(inode.mtime)))?;
    line(format!("change: {}", time_text(inode.ctime)))?;
    line(format!(" birth: {}", time_text(inode.btime)))
}
