//! `cairn mount conflicts`.

use std::ffi::OsStr;

use cairn_sdk::types::FsPath;
use cairn_sdk::{Client, ConflictId, MountConflict, MountStatus};
use serde_json::{Value, json};

use super::show::{path_of, rule_word};
use crate::cli::{ConflictsArgs, ConflictsCommand};
use crate::exit::CliError;
use crate::fs::remote;
use crate::output::{line, object, time_text};

pub async fn run(client: &Client, args: ConflictsArgs, json: bool) -> Result<(), CliError> {
    match args.command {
        Some(ConflictsCommand::Dismiss { path, conflicts, all }) => {
            dismiss(client, &path, conflicts, all, json).await
        }
        None => {
            let path = args.path.as_deref().map(remote).transpose()?;
            list(client, path.as_ref(), args.limit, json).await
        }
    }
}

async fn list(client: &Client, path: Option<&FsPath>, limit: usize, json: bool) -> Result<(), CliError> {
    let mounts = match path {
        Some(path) => vec![client.mount_status(path.to_bytes()).await?],
        None => client.mounts().await?,
    };
    for mount in mounts {
        for conflict in client.mount_conflicts(mount.id, None, limit).await? {
            if json { object(&as_json(&mount, &conflict))? } else { show(&mount, &conflict)? }
        }
    }
    Ok(())
}

fn show(mount: &MountStatus, conflict: &MountConflict) -> Result<(), CliError> {
    let etag = |etag: &str| if etag.is_empty() { "nothing".to_owned() } else { etag.to_owned() };
    line(format!(
        "{} {}\t{}\ts3://{}/{}",
        path_of(mount),
        conflict.id,
        time_text(conflict.time),
        mount.options.bucket,
        String::from_utf8_lossy(&conflict.key)
    ))?;
    line(format!("    {}", conflict.what))?;
    line(format!(
        "    known: {}, found: {}; decided by {}",
        etag(&conflict.expected_etag),
        etag(&conflict.found_etag),
        rule_word(conflict.rule)
    ))?;
    match &conflict.kept {
        Some((_, path)) if !path.is_empty() => {
            line(format!("    the other side: {}", String::from_utf8_lossy(path)))
        }
        Some(_) => line("    the other side was kept, and is removed since"),
        None => line("    the other side is nothing"),
    }
}

fn as_json(mount: &MountStatus, conflict: &MountConflict) -> Value {
    let kept = conflict.kept.as_ref();
    json!({
        "mount": path_of(mount),
        "conflict": conflict.id.0,
        "bucket": mount.options.bucket,
        "key": String::from_utf8_lossy(&conflict.key),
        "time": time_text(conflict.time),
        "time_ns": conflict.time.0,
        "expected_etag": conflict.expected_etag,
        "found_etag": conflict.found_etag,
        "kept_ino": kept.map(|(ino, _)| ino.0),
        "kept_path": kept.map(|(_, path)| String::from_utf8_lossy(path).into_owned()),
        "rule": rule_word(conflict.rule),
        "what": conflict.what,
    })
}

async fn dismiss(
    client: &Client,
    path: &OsStr,
    conflicts: Vec<u64>,
    all: bool,
    json: bool,
) -> Result<(), CliError> {
    let mount = client.mount_status(remote(path)?.to_bytes()).await?;
    let chosen: Vec<ConflictId> = if all {
        client.mount_conflicts(mount.id, None, usize::MAX).await?.iter().map(|conflict| conflict.id).collect()
    } else {
        conflicts.into_iter().map(ConflictId).collect()
    };
    for conflict in chosen {
        client.conflict_dismiss(mount.id, conflict).await?;
        if json {
            object(&json!({"mount": path_of(&mount), "conflict": conflict.0, "dismissed": true}))?;
        }
    }
    Ok(())
}
