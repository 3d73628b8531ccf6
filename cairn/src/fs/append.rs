//! `cairn fs append`.

use std::collections::VecDeque;
use std::os::unix::ffi::OsStringExt;

use bytes::Bytes;
use cairn_sdk::types::FsPath;
use cairn_sdk::types::limits::APPEND_BYTES_MAX;
use cairn_sdk::{Acknowledgement, Appender, Client};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::remote;
use crate::cli::AppendArgs;
use crate::exit::CliError;
use crate::output::{line, object};

/// Lines under way at once.
const LINES_AT_ONCE: usize = 256;

/// What is told of each record: its offset, or an object with the path too.
struct Told {
    path: FsPath,
    json: bool,
}

impl Told {
    fn offset(&self, offset: u64) -> Result<(), CliError> {
        if self.json {
            return object(&json!({"path": self.path.to_string(), "offset": offset}));
        }
        line(offset.to_string())
    }
}

pub async fn run(client: &Client, args: AppendArgs, json: bool) -> Result<(), CliError> {
    let path = remote(&args.path)?;
    let log =
        if args.exclusive { client.open_exclusive(&path).await? } else { client.open_append(&path).await? };
    let outcome = append(&log, args, &Told { path, json }).await;
    let closed = log.close().await;
    outcome?;
    Ok(closed?)
}

async fn append(log: &Appender, args: AppendArgs, told: &Told) -> Result<(), CliError> {
    if args.lines {
        return append_lines(log, told).await;
    }
    let record = match args.data {
        Some(data) => Bytes::from(data.into_vec()),
        None => read_record().await?,
    };
    let offset = match args.at {
        Some(expected) => log.append_at(expected, record).await?,
        None => log.append(record).await?,
    };
    told.offset(offset)
}

async fn read_record() -> Result<Bytes, CliError> {
    let mut record = Vec::new();
    let limit = APPEND_BYTES_MAX as u64 + 1;
    tokio::io::stdin()
        .take(limit)
        .read_to_end(&mut record)
        .await
        .map_err(|e| CliError::io("read", "standard input", e))?;
    Ok(record.into())
}

async fn append_lines(log: &Appender, told: &Told) -> Result<(), CliError> {
    let mut input = BufReader::new(tokio::io::stdin());
    let mut under_way: VecDeque<Acknowledgement> = VecDeque::new();
    loop {
        let mut record = Vec::new();
        let n = (&mut input)
            .take(APPEND_BYTES_MAX as u64 + 1)
            .read_until(b'\n', &mut record)
            .await
            .map_err(|e| CliError::io("read", "standard input", e))?;
        if n > 0 {
            under_way.push_back(log.submit(record).await?);
        }
        while under_way.len() > if n > 0 { LINES_AT_ONCE } else { 0 } {
            let Some(first) = under_way.pop_front() else { break };
            told.offset(first.offset().await?)?;
        }
        if n == 0 {
            return Ok(());
        }
    }
}
