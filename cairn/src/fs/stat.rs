//! `cairn fs stat`.

use std::ffi::OsString;

use cairn_sdk::Client;

use super::remote;
use crate::exit::CliError;
use crate::output::{inode_json, line, mode_text, time_text};

pub async fn run(client: &Client, paths: &[OsString], json: bool, no_follow: bool) -> Result<(), CliError> {
    for path in paths {
        let path = remote(path)?;
        let inode = if no_follow { client.symlink_stat(&path).await? } else { client.stat(&path).await? };
        if json {
            line(inode_json(&path.to_bytes(), &inode, false).to_string())?;
            continue;
        }
        line(format!("  path: {path}"))?;
        if let Some(target) = &inode.target {
            line(format!("    to: {}", String::from_utf8_lossy(target)))?;
        }
        let growing = if inode.tail.is_some() { " (growing)" } else { "" };
        line(format!("  size: {}{growing}", inode.size))?;
        line(format!(
            "  mode: {} ({:04o})  uid: {}  gid: {}",
            mode_text(&inode),
            inode.mode,
            inode.uid,
            inode.gid
        ))?;
        line(format!(" inode: {}  links: {}  version: {}", inode.ino.0, inode.nlink, inode.version))?;
        line(format!("modify: {}", time_text(inode.mtime)))?;
        line(format!("change: {}", time_text(inode.ctime)))?;
        line(format!(" birth: {}", time_text(inode.btime)))?;
    }
    Ok(())
}
