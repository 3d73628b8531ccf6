//! `cairn fs du`.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};

use cairn_sdk::types::{FsPath, Inode};
use cairn_sdk::{Client, TreeOptions};
use serde_json::json;

use super::tally::Tally;
use super::{below, remote};
use crate::exit::CliError;
use crate::output::line;

pub async fn run(client: &Client, paths: &[OsString], summarize: bool, json: bool) -> Result<(), CliError> {
    let mut tally = Tally::over(paths)?;
    for path in paths {
        tally.count(measure(client, path, summarize, json).await)?;
    }
    tally.end()
}

/// What a directory holds, with all below it.
#[derive(Default)]
struct Sum {
    /// Its key from the top: empty, or with a slash at its end.
    key: Vec<u8>,
    bytes: u64,
    files: u64,
}

impl Sum {
    fn show(&self, top: &FsPath, json: bool) -> Result<(), CliError> {
        let path = match self.key.strip_suffix(b"/") {
            Some(relative) => below(top, relative),
            None => top.to_bytes(),
        };
        if json {
            let path = String::from_utf8_lossy(&path);
            return line(json!({"path": path, "bytes": self.bytes, "files": self.files}).to_string());
        }
        line([format!("{}\t", self.bytes).as_bytes(), &path].concat())
    }
}

/// Shows the sums of a path, of each directory in it after those below it, unless only the total is
/// wanted. A file of several names counts once.
async fn measure(client: &Client, path: &OsStr, summarize: bool, json: bool) -> Result<(), CliError> {
    let top = remote(path)?;
    let inode = client.symlink_stat(&top).await?;
    if !inode.is_dir() {
        return Sum { bytes: inode.size, files: 1, ..Sum::default() }.show(&top, json);
    }
    let mut seen = HashSet::new();
    // The directories from the top down to where the listing is.
    let mut open = vec![Sum::default()];
    let mut listing = client.list_tree(&top, TreeOptions::default());
    while let Some(entry) = listing.next().await? {
        let Some(inode) = &entry.inode else { continue };
        while open.len() > 1 && open.last().is_some_and(|sum| !entry.path.starts_with(&sum.key)) {
            close(&mut open, &top, summarize, json)?;
        }
        if inode.is_dir() {
            open.push(Sum { key: entry.key(), ..Sum::default() });
        } else if counts(inode, &mut seen)
            && let Some(sum) = open.last_mut()
        {
            sum.bytes += inode.size;
            sum.files += 1;
        }
    }
    while open.len() > 1 {
        close(&mut open, &top, summarize, json)?;
    }
    open.pop().unwrap_or_default().show(&top, json)
}

/// Ends the deepest directory: what it holds, the one above it holds too.
fn close(open: &mut Vec<Sum>, top: &FsPath, summarize: bool, json: bool) -> Result<(), CliError> {
    let Some(sum) = open.pop() else { return Ok(()) };
    if let Some(above) = open.last_mut() {
        above.bytes += sum.bytes;
        above.files += sum.files;
    }
    if summarize { Ok(()) } else { sum.show(top, json) }
}

/// False for a further name of a file that was counted.
fn counts(inode: &Inode, seen: &mut HashSet<u64>) -> bool {
    inode.nlink <= 1 || seen.insert(inode.ino.0)
}
