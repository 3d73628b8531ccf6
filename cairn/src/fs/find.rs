//! `cairn fs find`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use cairn_sdk::types::{FileKind, Inode};
use cairn_sdk::{Client, TreeOptions};

use super::glob::Glob;
use super::tally::Tally;
use super::{below, remote};
use crate::cli::FindArgs;
use crate::exit::CliError;
use crate::output::{inode_json, line, object};

pub async fn run(client: &Client, args: &FindArgs, json: bool) -> Result<(), CliError> {
    let wanted =
        Wanted { name: args.name.as_deref().map(|name| Glob::new(name.as_bytes())), kind: args.kind() };
    let mut tally = Tally::over(&args.paths)?;
    for path in &args.paths {
        tally.count(find(client, path, &wanted, json).await)?;
    }
    tally.end()
}

struct Wanted {
    name: Option<Glob>,
    kind: Option<FileKind>,
}

impl Wanted {
    fn is(&self, path: &[u8], inode: &Inode) -> bool {
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
        self.kind.is_none_or(|kind| kind == inode.kind) && self.name.as_ref().is_none_or(|n| n.matches(name))
    }
}

/// Shows what is wanted of a path and all below it.
async fn find(client: &Client, path: &OsStr, wanted: &Wanted, json: bool) -> Result<(), CliError> {
    let path = remote(path)?;
    let inode = client.symlink_stat(&path).await?;
    show(wanted, &path.to_bytes(), &inode, false, json)?;
    if !inode.is_dir() {
        return Ok(());
    }
    let mut listing = client.list_tree(&path, TreeOptions::default());
    while let Some(entry) = listing.next().await? {
        if let Some(inode) = &entry.inode {
            show(wanted, &below(&path, &entry.path), inode, entry.growing, json)?;
        }
    }
    Ok(())
}

fn show(wanted: &Wanted, path: &[u8], inode: &Inode, growing: bool, json: bool) -> Result<(), CliError> {
    match (wanted.is(path, inode), json) {
        (false, _) => Ok(()),
        (true, true) => object(&inode_json(path, inode, growing)),
        (true, false) => line(path),
    }
}
