//! `cairn fs mv`.

use std::ffi::OsString;

use cairn_sdk::{Client, RenameMode};

use super::{destination, remote, sources};
use crate::exit::CliError;

pub async fn run(
    client: &Client,
    paths: &[OsString],
    no_replace: bool,
    exchange: bool,
) -> Result<(), CliError> {
    let (from, to) = sources(paths)?;
    let to = remote(to)?;
    let mode = match (no_replace, exchange) {
        (_, true) => RenameMode::Exchange,
        (true, _) => RenameMode::NoReplace,
        _ => RenameMode::Replace,
    };
    for source in from {
        let source = remote(source)?;
        let name = source.name().map(|n| n.as_bytes());
        let target = if exchange { to.clone() } else { destination(client, &to, name).await? };
        if from.len() > 1 && target == to {
            return Err(CliError::Usage(format!("{to} is not a directory, and there are several sources")));
        }
        client.rename(&source, &target, mode).await?;
    }
    Ok(())
}
