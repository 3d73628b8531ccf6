//! `cairn mount`.

mod add;
mod check;
mod conflicts;
mod rm;
mod show;
mod sync;

pub use add::parse_s3_url;

use cairn_sdk::types::{FsError, FsPath};
use cairn_sdk::{Client, MountStatus};

use crate::cli::{Connect, MountArgs, MountCommand};
use crate::exit::CliError;
use crate::fs::{connect, remote};

pub async fn run(at: &Connect, args: MountArgs) -> Result<(), CliError> {
    let MountArgs { json, command } = args;
    // Wrong usage is told before anybody is asked.
    if let MountCommand::Add(args) = &command {
        add::Wanted::read(args)?;
    }
    let client = connect(at).await?;
    let outcome = dispatch(&client, command, json).await;
    crate::output::flush()?;
    let closed = client.close().await;
    outcome?;
    Ok(closed?)
}

async fn dispatch(client: &Client, command: MountCommand, json: bool) -> Result<(), CliError> {
    match command {
        MountCommand::Add(args) => add::add(client, add::Wanted::read(&args)?, json).await,
        MountCommand::Ls => show::list(client, json).await,
        MountCommand::Show { path } => show::one(client, &path, json).await,
        MountCommand::Set(args) => add::set(client, &args, json).await,
        MountCommand::Sync(args) => sync::run(client, &args, json).await,
        MountCommand::Check(args) => check::run(client, &args, json).await,
        MountCommand::Conflicts(args) => conflicts::run(client, args, json).await,
        MountCommand::Rm { path, wait, abandon } => {
            rm::run(client, &remote(&path)?, wait, abandon, json).await
        }
    }
}

/// The mount that a path is the root of or lies below, and the path from its root.
async fn mount_over(client: &Client, path: &FsPath) -> Result<(MountStatus, Vec<u8>), CliError> {
    let bytes = path.to_bytes();
    let below = |mount: &MountStatus| {
        let rest = bytes.strip_prefix(mount.path.as_slice())?;
        match rest {
            [] => Some(Vec::new()),
            [b'/', rest @ ..] => Some(rest.to_vec()),
            _ => None,
        }
    };
    let over = client.mounts_with_figures().await?.into_iter().filter_map(|mount| {
        let below = below(&mount)?;
        Some((mount, below))
    });
    // Of nested ones the nearest.
    let found = over.max_by_key(|(mount, _)| mount.path.len());
    let refused = FsError::NoSuchMount;
    found.ok_or_else(|| CliError::Path { path: String::from_utf8_lossy(&bytes).into_owned(), refused })
}
