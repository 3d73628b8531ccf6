//! `cairn fs concat`.

use std::ffi::OsString;

use cairn_sdk::types::Inode;
use cairn_sdk::{At, Client};

use super::{remote, sources};
use crate::exit::CliError;
use crate::output::{inode_json, object};

/// Makes the destination if it is missing and appends the sources, all in one entry.
pub async fn run(client: &Client, paths: &[OsString], json: bool) -> Result<(), CliError> {
    let (from, to) = sources(paths)?;
    let to = remote(to)?;
    let from = from.iter().map(|path| remote(path).map(|path| At::from(&path)));
    let from = from.collect::<Result<Vec<At>, CliError>>()?;
    let steps = client.transaction().touch(&to, 0o644).concat(&to, &from).commit().await?;
    let joined: Option<Inode> = steps.into_iter().flatten().next_back();
    match joined {
        Some(inode) if json => object(&inode_json(&to.to_bytes(), &inode, false)),
        _ => Ok(()),
    }
}
