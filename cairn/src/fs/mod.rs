//! `cairn fs`: files and directories.

mod append;
mod cat;
mod copy;
mod du;
mod get;
mod ls;
mod make;
mod mv;
mod policy;
mod put;
mod rm;
mod stat;
mod tail;
mod tree;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

pub use cat::copy_out;

use cairn_sdk::types::FsPath;
use cairn_sdk::{Client, ConnectOptions};

use crate::cli::{Connect, FsCommand};
use crate::exit::CliError;

/// Connects to the cluster that the command line names.
pub async fn connect(connect: &Connect) -> Result<Client, CliError> {
    let mut options = ConnectOptions::new(connect.connect.clone());
    options.retry_budget = Duration::from_secs(connect.retry_seconds.max(1));
    if let Some(id) = &connect.cluster_id {
        let id = id.parse().map_err(|e| CliError::Usage(format!("--cluster-id {id}: {e}")))?;
        options.cluster_id = Some(id);
    }
    options.name = format!("cairn-cli-{}", std::process::id());
    Ok(Client::connect(options).await?)
}

/// Runs one command and ends the session, whatever came of the command.
pub async fn run(at: &Connect, command: FsCommand) -> Result<(), CliError> {
    let client = connect(at).await?;
    let outcome = dispatch(&client, command).await;
    crate::output::flush()?;
    let closed = client.close().await;
    outcome?;
    Ok(closed?)
}

async fn dispatch(client: &Client, command: FsCommand) -> Result<(), CliError> {
    match command {
        FsCommand::Ls(args) => ls::run(client, args).await,
        FsCommand::Stat { paths, json, no_follow } => stat::run(client, &paths, json, no_follow).await,
        FsCommand::Cat { paths, offset, length } => cat::run(client, &paths, offset, length).await,
        FsCommand::Tail(args) => tail::run(client, args).await,
        FsCommand::Put(args) => put::run(client, args).await,
        FsCommand::Get(args) => get::run(client, args).await,
        FsCommand::Append(args) => append::run(client, args).await,
        FsCommand::Cp { paths, recursive } => copy::run(client, &paths, recursive).await,
        FsCommand::Mv { paths, no_replace, exchange } => mv::run(client, &paths, no_replace, exchange).await,
        FsCommand::Rm { paths, recursive, force } => rm::run(client, &paths, recursive, force).await,
        FsCommand::Mkdir { paths, parents, mode } => make::directories(client, &paths, parents, mode).await,
        FsCommand::Ln { to, path, symbolic } => make::link(client, &to, &path, symbolic).await,
        FsCommand::Du { paths, summarize, json } => du::run(client, &paths, summarize, json).await,
        FsCommand::Tree { path, depth } => tree::run(client, &path, depth).await,
        FsCommand::Sync { paths } => {
            for path in &paths {
                client.sync(remote(path)?.to_bytes()).await?;
            }
            Ok(())
        }
        FsCommand::Policy(args) => policy::run(client, args).await,
    }
}

/// A path of the namespace from the command line; `..` is resolved by its text.
pub fn remote(text: &OsStr) -> Result<FsPath, CliError> {
    let bytes = text.as_bytes();
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in bytes.split(|b| *b == b'/') {
        match part {
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut joined = parts.join(&b'/');
    if bytes.starts_with(b"/") && !joined.starts_with(b"/") {
        joined.insert(0, b'/');
    }
    FsPath::parse(&joined).map_err(|e| CliError::Usage(format!("{}: {e}", text.to_string_lossy())))
}

/// A target path: inside `to` under the source's name when `to` is a directory.
pub async fn destination(client: &Client, to: &FsPath, name: Option<&[u8]>) -> Result<FsPath, CliError> {
    let is_dir = match client.stat(to).await {
        Ok(inode) => inode.is_dir(),
        Err(error) if error.fs() == Some(&cairn_sdk::types::FsError::NotFound) => false,
        Err(error) => return Err(error.into()),
    };
    match (is_dir, name) {
        (true, Some(name)) => {
            let name = cairn_sdk::types::Name::new(name)
                .map_err(|e| CliError::Usage(format!("{}: {e}", String::from_utf8_lossy(name))))?;
            Ok(to.join(name))
        }
        _ => Ok(to.clone()),
    }
}

/// Splits `from … to`, where `to` must be an existing directory when there are several.
pub fn sources(paths: &[OsString]) -> Result<(&[OsString], &OsString), CliError> {
    match paths.split_last() {
        Some((to, from)) if !from.is_empty() => Ok((from, to)),
        _ => Err(CliError::Usage("name at least one source and a destination".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_dot_is_resolved_by_text() {
        let text = |t: &str| remote(OsStr::new(t)).map(|p| p.to_string()).ok();
        assert_eq!(text("/a/../b"), Some("/b".into()));
        assert_eq!(text("/.."), Some("/".into()));
        assert_eq!(text("relative"), None);
    }
}
