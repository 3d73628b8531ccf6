//! `cairn fs`: files and directories.

mod across;
mod append;
mod cat;
mod concat;
mod copy;
mod df;
mod du;
mod explain;
mod find;
mod get;
mod glob;
mod lock;
mod ls;
mod make;
mod mknod;
mod mv;
mod put;
mod reflink;
mod rm;
mod stat;
mod sync;
mod tail;
mod tally;
mod transfer;
mod tree;
mod txn;
mod warm;
mod watch;
mod xattr;

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

pub use cat::copy_out;

use cairn_sdk::types::{Credentials, FsError, FsPath, Name};
use cairn_sdk::{Client, ConnectOptions};

use crate::cli::{Connect, FsArgs, FsCommand};
use crate::exit::CliError;

/// Connects to the cluster that the command line names.
pub async fn connect(connect: &Connect) -> Result<Client, CliError> {
    connect_as(connect, None).await
}

/// As [`connect`], by a user that is checked.
async fn connect_as(connect: &Connect, credentials: Option<Credentials>) -> Result<Client, CliError> {
    let mut options = ConnectOptions::new(connect.connect.clone());
    options.retry_budget = Duration::from_secs(connect.retry_seconds.max(1));
    if let Some(id) = &connect.cluster_id {
        let id = id.parse().map_err(|e| CliError::Usage(format!("--cluster-id {id}: {e}")))?;
        options.cluster_id = Some(id);
    }
    options.credentials = credentials;
    options.name = format!("cairn-cli-{}", std::process::id());
    Ok(Client::connect(options).await?)
}

/// Runs one command and ends the session, whatever came of the command.
pub async fn run(at: &Connect, args: FsArgs) -> Result<(), CliError> {
    check(&args)?;
    let client = connect_as(at, args.credentials.clone()).await?;
    let outcome = dispatch(&client, args).await;
    crate::output::flush()?;
    let closed = client.close().await;
    outcome?;
    Ok(closed?)
}

async fn dispatch(client: &Client, args: FsArgs) -> Result<(), CliError> {
    let FsArgs { json, command, .. } = args;
    match command {
        FsCommand::Ls(args) => ls::run(client, args, json).await,
        FsCommand::Stat { paths, no_follow } => stat::run(client, &paths, json, no_follow).await,
        FsCommand::Cat { paths, offset, length } => cat::run(client, &paths, offset, length).await,
        FsCommand::Tail(args) => tail::run(client, args).await,
        FsCommand::Put(args) => put::run(client, args, json).await,
        FsCommand::Get(args) => get::run(client, args, json).await,
        FsCommand::Append(args) => append::run(client, args, json).await,
        FsCommand::Cp(args) if args.reflink => reflink::run(client, &args.transfer, json).await,
        FsCommand::Cp(args) => copy::run(client, args.transfer, json).await,
        FsCommand::Concat { paths } => concat::run(client, &paths, json).await,
        FsCommand::Txn { file } => txn::run(client, &file, json).await,
        FsCommand::Mv { paths, no_replace, exchange } => {
            mv::run(client, &paths, no_replace, exchange, json).await
        }
        FsCommand::Rm(args) => rm::run(client, &args, json).await,
        FsCommand::Find(args) => find::run(client, &args, json).await,
        FsCommand::Mkdir { paths, parents, mode } => {
            make::directories(client, &paths, parents, mode, json).await
        }
        FsCommand::Ln { to, path, symbolic } => make::link(client, &to, &path, symbolic, json).await,
        FsCommand::Mknod(args) => mknod::run(client, &args, json).await,
        FsCommand::Xattr(args) => xattr::run(client, args, json).await,
        FsCommand::Df => df::run(client, json).await,
        FsCommand::Du { paths, summarize } => du::run(client, &paths, summarize, json).await,
        FsCommand::Tree { path, depth } => tree::run(client, &path, depth, json).await,
        FsCommand::Explain { path } => explain::run(client, &path, json).await,
        FsCommand::Sync { paths } => sync::run(client, &paths, json).await,
        FsCommand::Warm(args) => warm::run(client, &args, json).await,
        FsCommand::Lock(args) => lock::run(client, args).await,
        FsCommand::Watch(args) => watch::run(client, &args, json).await,
    }
}

/// Refuses `--json` where bytes are written as they are.
fn check(args: &FsArgs) -> Result<(), CliError> {
    let verb = match &args.command {
        _ if !args.json => return Ok(()),
        FsCommand::Cat { .. } => "cat",
        FsCommand::Tail(_) => "tail",
        FsCommand::Lock(_) => "lock",
        FsCommand::Get(get) if get.paths.last().is_some_and(|to| to == "-") => "get to standard output",
        _ => return Ok(()),
    };
    Err(CliError::Usage(format!("{verb} writes bytes as they are: leave --json out")))
}

/// Refuses a path that is not absolute: wrong usage, whatever the namespace holds.
fn absolute(text: &OsStr) -> Result<(), CliError> {
    if text.as_bytes().starts_with(b"/") {
        return Ok(());
    }
    let text = text.to_string_lossy();
    Err(CliError::Usage(format!("'{text}' is not an absolute path: a path of the namespace starts with '/'")))
}

/// A path of the namespace from the command line; `..` is resolved by its text.
///
/// # Errors
/// `Usage` for a relative path, `Path` for what the namespace refuses.
pub fn remote(text: &OsStr) -> Result<FsPath, CliError> {
    absolute(text)?;
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
    if !joined.starts_with(b"/") {
        joined.insert(0, b'/');
    }
    let path = || text.to_string_lossy().into_owned();
    FsPath::parse(&joined).map_err(|refused| CliError::Path { path: path(), refused })
}

/// The path of what lies at `relative` below a directory.
pub fn below(directory: &FsPath, relative: &[u8]) -> Vec<u8> {
    let mut path = directory.to_bytes();
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(relative);
    path
}

/// A target path: inside `to` under the source's name when `to` is a directory.
pub async fn destination(client: &Client, to: &FsPath, name: Option<&[u8]>) -> Result<FsPath, CliError> {
    let is_dir = match client.stat(to).await {
        Ok(inode) => inode.is_dir(),
        Err(error) if error.fs() == Some(&FsError::NotFound) => false,
        Err(error) => return Err(error.into()),
    };
    match (is_dir, name) {
        (true, Some(name)) => {
            let path = || String::from_utf8_lossy(name).into_owned();
            let name = Name::new(name).map_err(|refused| CliError::Path { path: path(), refused })?;
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

/// Several sources have one destination, which is no directory.
fn no_directory(to: impl Display) -> CliError {
    CliError::Usage(format!("{to} is not a directory, and there are several sources"))
}

/// A directory is named as a source, without -r.
fn is_directory(source: impl Display) -> CliError {
    CliError::Usage(format!("{source} is a directory: use -r"))
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

    #[test]
    fn a_relative_path_is_wrong_usage_and_a_bad_one_is_refused() {
        let code = |text: &str| remote(OsStr::new(text)).unwrap_err().code();
        assert_eq!((code("relative"), code("")), (2, 2));
        assert_eq!(code(&format!("/{}", "n".repeat(256))), 1);
        assert_eq!(code(&"/x".repeat(2050)), 1);
        assert_eq!(code("/nul\0"), 1);
    }
}
