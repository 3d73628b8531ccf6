//! `cairn fs tail`.

use cairn_sdk::types::{FsError, FsPath};
use cairn_sdk::{Change, Client, File, Tail, TailEvent, Watch, WatchEvent, WatchOptions};

use super::cat::copy_out;
use super::remote;
use crate::cli::TailArgs;
use crate::exit::CliError;
use crate::output;

/// Bytes looked at from the end, at most, to find the last lines.
const LOOK_BACK_BYTES: u64 = 16 << 20;
const STEP_BYTES: u64 = 64 << 10;

pub async fn run(client: &Client, args: TailArgs) -> Result<(), CliError> {
    let path = remote(&args.path)?;
    // From before the file is opened on: no change of the name is missed.
    let names = if args.by_name { Some(Names::watch(client, &path).await?) } else { None };
    let file = client.open(path.to_bytes()).await?;
    let length = file.length();
    let at = match args.bytes {
        Some(bytes) => length.saturating_sub(bytes),
        None => start_of_lines(&file, args.lines).await?,
    };
    copy_out(&file, at, length, output::bytes).await?;
    output::flush()?;
    if !args.follow && !args.by_name {
        return Ok(());
    }
    let tail = client.tail(file.ino(), length).await?;
    drop(file);
    let following = async {
        match names {
            Some(names) => follow_name(client, tail, names).await,
            None => follow(tail).await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => Ok(()),
        ended = following => ended,
    }
}

async fn follow(mut tail: Tail) -> Result<(), CliError> {
    loop {
        show(tail.next().await?)?;
    }
}

fn show(event: TailEvent) -> Result<(), CliError> {
    match event {
        TailEvent::Bytes { data, .. } => {
            output::bytes(&data)?;
            output::flush()?;
        }
        TailEvent::Truncated { length } => eprintln!("cairn: the file was cut, it ends at {length} now"),
        TailEvent::Unlinked => eprintln!("cairn: the file was removed, or another has its name"),
    }
    Ok(())
}

/// Follows what has the name: when that is another file, the old one is shown to its end first.
async fn follow_name(client: &Client, mut tail: Tail, mut names: Names) -> Result<(), CliError> {
    loop {
        let named = tokio::select! {
            event = tail.next() => {
                show(event?)?;
                continue;
            }
            named = names.changed() => named?,
        };
        if !named {
            eprintln!("cairn: the directory was removed");
            return Ok(());
        }
        match client.stat(&names.path).await {
            Ok(inode) if inode.ino == tail.ino() => {}
            Ok(_) => {
                show_rest(client, &mut tail).await?;
                match client.tail(&names.path, 0).await {
                    Ok(next) => tail = next,
                    // It has gone again.
                    Err(error) if error.fs() == Some(&FsError::NotFound) => continue,
                    Err(error) => return Err(error.into()),
                }
                eprintln!("cairn: another file has the name");
            }
            // Another may come.
            Err(error) if error.fs() == Some(&FsError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Shows what the file has now.
async fn show_rest(client: &Client, tail: &mut Tail) -> Result<(), CliError> {
    let end = match client.stat(tail.ino()).await {
        Ok(inode) => inode.size,
        Err(error) if error.fs() == Some(&FsError::Stale) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    while tail.offset() < end {
        let event = tail.next().await?;
        let is_cut = matches!(event, TailEvent::Truncated { .. });
        show(event)?;
        if is_cut {
            break;
        }
    }
    Ok(())
}

/// Tells when a name leads to something else.
struct Names {
    path: FsPath,
    name: Vec<u8>,
    directory: Watch,
}

impl Names {
    async fn watch(client: &Client, path: &FsPath) -> Result<Self, CliError> {
        let bytes = path.to_bytes();
        let cut = bytes.iter().rposition(|b| *b == b'/').unwrap_or(0);
        let directory = client.watch(&bytes[..cut.max(1)], WatchOptions::default()).await?;
        let name = bytes[(cut + 1).min(bytes.len())..].to_vec();
        Ok(Self { path: path.clone(), name, directory })
    }

    /// Waits until the name may lead to something else; false when its directory is gone.
    async fn changed(&mut self) -> Result<bool, CliError> {
        while let Some(event) = self.directory.next().await? {
            if self.is_about(&event) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_about(&self, event: &WatchEvent) -> bool {
        match &event.change {
            Change::Created | Change::Removed { .. } => event.name == self.name,
            Change::Renamed { to_name, .. } | Change::Exchanged { to_name, .. } => {
                event.name == self.name || *to_name == self.name
            }
            _ => false,
        }
    }
}

/// The offset of the first of the last `lines` lines.
async fn start_of_lines(file: &File, lines: usize) -> Result<u64, CliError> {
    let length = file.length();
    let mut start = length;
    let mut tail: Vec<u8> = Vec::new();
    loop {
        // A newline at the very end closes the last line.
        let body = tail.strip_suffix(b"\n").unwrap_or(&tail);
        let mut newlines = body.iter().enumerate().rev().filter(|(_, b)| **b == b'\n').map(|(i, _)| i);
        if lines == 0 {
            return Ok(length);
        }
        if let Some(at) = newlines.nth(lines - 1) {
            return Ok(start + at as u64 + 1);
        }
        if start == 0 || length - start >= LOOK_BACK_BYTES {
            return Ok(start);
        }
        let from = start.saturating_sub(STEP_BYTES);
        let mut piece = file.read_at(from, usize::try_from(start - from).unwrap_or(0)).await?.to_vec();
        piece.append(&mut tail);
        tail = piece;
        start = from;
    }
}
