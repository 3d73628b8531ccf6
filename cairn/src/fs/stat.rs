//! `cairn fs stat`.

use std::ffi::{OsStr, OsString};

use cairn_sdk::types::{FsPath, Inode};
use cairn_sdk::{Client, PolicyInForce};
use serde_json::Value;

use super::remote;
use super::tally::Tally;
use crate::exit::CliError;
use crate::output::{inode_json, line, mode_text, object, time_text};
use crate::policy;

pub async fn run(client: &Client, paths: &[OsString], json: bool, no_follow: bool) -> Result<(), CliError> {
    let mut tally = Tally::over(paths)?;
    for path in paths {
        if let Some((path, inode, in_force)) = tally.count(look(client, path, no_follow).await)? {
            if json {
                object(&as_json(&path, &inode, &in_force))?;
            } else {
                show(&path, &inode, &in_force)?;
            }
        }
    }
    tally.end()
}

async fn look(
    client: &Client,
    path: &OsStr,
    no_follow: bool,
) -> Result<(FsPath, Inode, PolicyInForce), CliError> {
    let path = remote(path)?;
    let inode = if no_follow { client.symlink_stat(&path).await? } else { client.stat(&path).await? };
    let in_force = client.policy_in_force(inode.ino).await?;
    Ok((path, inode, in_force))
}

fn as_json(path: &FsPath, inode: &Inode, in_force: &PolicyInForce) -> Value {
    let mut stat = inode_json(&path.to_bytes(), inode, false);
    if let Value::Object(stat) = &mut stat {
        stat.insert("policy".to_owned(), policy::fields(in_force));
    }
    stat
}

fn show(path: &FsPath, inode: &Inode, in_force: &PolicyInForce) -> Result<(), CliError> {
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
    line(format!(" birth: {}", time_text(inode.btime)))?;
    line(format!("policy: {}; {}", policy::text(&in_force.policy), policy::origin_text(in_force)))
}
