//! `cairn fs mknod`.

use cairn_sdk::Client;
use cairn_sdk::types::{DeviceNumber, FileKind};

use super::remote;
use crate::cli::MknodArgs;
use crate::exit::CliError;
use crate::output::{inode_json, object};

pub async fn run(client: &Client, args: &MknodArgs, json: bool) -> Result<(), CliError> {
    let path = remote(&args.path)?;
    let inode = client.mknod(&path, kind(args)?, args.mode).await?;
    if json { object(&inode_json(&path.to_bytes(), &inode, false)) } else { Ok(()) }
}

fn kind(args: &MknodArgs) -> Result<FileKind, CliError> {
    let device = args.major.zip(args.minor).map(|(major, minor)| DeviceNumber { major, minor });
    match (args.kind.as_str(), device) {
        ("p", None) => Ok(FileKind::Fifo),
        ("s", None) => Ok(FileKind::Socket),
        ("c", Some(device)) => Ok(FileKind::CharacterDevice(device)),
        ("b", Some(device)) => Ok(FileKind::BlockDevice(device)),
        ("c" | "b", None) => Err(CliError::Usage("a device needs a major and a minor number".to_owned())),
        _ => Err(CliError::Usage("only a device has numbers".to_owned())),
    }
}
