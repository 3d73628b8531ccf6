//! `cairn lag`.

pub mod cluster;
mod tree;

use std::ffi::OsStr;

use cairn_sdk::{Client, FileLag};
use serde_json::{Value, json};

use crate::cli::{Connect, LagArgs};
use crate::exit::CliError;
use crate::fs::{connect, remote};
use crate::output::{human_bytes, line, object};
use crate::units::{about_time, exact_bytes, exact_time};

pub async fn run(at: &Connect, args: LagArgs) -> Result<(), CliError> {
    let client = connect(at).await?;
    let outcome = match &args.path {
        None => cluster::run(&client, args.json).await,
        Some(path) => of_path(&client, path, &args).await,
    };
    crate::output::flush()?;
    let closed = client.close().await;
    outcome?;
    Ok(closed?)
}

async fn of_path(client: &Client, path: &OsStr, args: &LagArgs) -> Result<(), CliError> {
    let path = remote(path)?;
    let inode = client.stat(&path).await?;
    if inode.is_dir() {
        return tree::run(client, &path, usize::from(args.top), args.json).await;
    }
    let mut walk = client.lag(inode.ino).await?;
    let mut file = None;
    while let Some(found) = walk.next().await? {
        file = found.files.into_iter().next().or(file);
    }
    match file {
        Some(file) if args.json => object(&file_json(&path.to_bytes(), &file)),
        Some(file) => show(&path.to_string(), &file),
        None => {
            Err(CliError::Usage(format!("{path} is no regular file and no directory: it holds no bytes")))
        }
    }
}

/// How much of a bound is used, for people.
fn part_text(used: u64, bound: u64) -> String {
    format!("{:.1} %", used as f64 * 100.0 / bound.max(1) as f64)
}

fn show(path: &str, file: &FileLag) -> Result<(), CliError> {
    let policy = &file.policy;
    line(path)?;
    let bound = exact_bytes(policy.max_lag_bytes);
    let part = part_text(file.bytes, policy.max_lag_bytes);
    line(format!("  not in S3        {} of {bound} ({part})", human_bytes(file.bytes)))?;
    if let Some(tail) = &file.tail {
        let told = tail.bytes.map_or("its primary does not say how much".to_owned(), human_bytes);
        line(format!("  in the open tail {told} ({})", tail.chunk))?;
    }
    let age = if file.bytes == 0 { "none".to_owned() } else { about_time(file.age_ms) };
    line(format!("  oldest byte      {age}, {} is aimed at", exact_time(policy.max_lag_ms)))?;
    if file.never_bytes > 0 {
        line(format!("  never persisted  {}", human_bytes(file.never_bytes)))?;
    }
    Ok(())
}

/// A file's lag as fields.
fn file_json(path: &[u8], file: &FileLag) -> Value {
    let tail = file.tail.map(|tail| json!({"chunk": tail.chunk.0, "bytes": tail.bytes}));
    json!({
        "path": String::from_utf8_lossy(path), "ino": file.ino.0, "bytes": file.bytes, "age_ms": file.age_ms,
        "max_lag_bytes": file.policy.max_lag_bytes, "max_lag_ms": file.policy.max_lag_ms,
        "never_bytes": file.never_bytes, "tail": tail,
    })
}
