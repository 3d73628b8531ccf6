//! `cairn fs xattr`.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

use cairn_sdk::types::limits::XATTR_BYTES_MAX;
use cairn_sdk::{Client, XattrMode};
use serde_json::json;

use super::remote;
use crate::cli::{XattrArgs, XattrCommand};
use crate::exit::CliError;
use crate::output::{bytes, hex, line, object};

pub async fn run(client: &Client, args: XattrArgs, json: bool) -> Result<(), CliError> {
    let no_follow = args.no_follow;
    match args.command {
        XattrCommand::Ls { path } => list(client, &path, no_follow, json).await,
        XattrCommand::Get { path, name } => {
            let path = remote(&path)?;
            let value = client.get_xattr(&path, no_follow, name.as_bytes()).await?;
            let name = name.to_string_lossy();
            match json {
                true => object(&json!({"path": path.to_string(), "name": name, "value_hex": hex(&value)})),
                false => bytes(&value),
            }
        }
        XattrCommand::Set { path, name, value, create, replace } => {
            let path = remote(&path)?;
            let mode = match (create, replace) {
                (true, _) => XattrMode::Create,
                (_, true) => XattrMode::Replace,
                _ => XattrMode::Any,
            };
            let value = given(value)?;
            client.set_xattr(&path, no_follow, name.as_bytes(), value, mode).await?;
            done(&path.to_string(), &name, json)
        }
        XattrCommand::Rm { path, name } => {
            let path = remote(&path)?;
            client.remove_xattr(&path, no_follow, name.as_bytes()).await?;
            done(&path.to_string(), &name, json)
        }
    }
}

fn done(path: &str, name: &OsStr, json: bool) -> Result<(), CliError> {
    if json { object(&json!({"path": path, "name": name.to_string_lossy()})) } else { Ok(()) }
}

async fn list(client: &Client, path: &OsStr, no_follow: bool, json: bool) -> Result<(), CliError> {
    let path = remote(path)?;
    for name in client.list_xattrs(&path, no_follow).await? {
        match json {
            true => done(&path.to_string(), OsStr::from_bytes(&name), true)?,
            false => line(name)?,
        }
    }
    Ok(())
}

/// The value on the command line, else standard input: one byte over the limit is enough to be refused.
fn given(value: Option<OsString>) -> Result<Vec<u8>, CliError> {
    if let Some(value) = value {
        return Ok(value.as_bytes().to_vec());
    }
    let mut read = Vec::new();
    let limit = XATTR_BYTES_MAX as u64 + 1;
    let outcome = std::io::stdin().lock().take(limit).read_to_end(&mut read);
    outcome.map_err(|e| CliError::io("read", "standard input", e))?;
    Ok(read)
}
