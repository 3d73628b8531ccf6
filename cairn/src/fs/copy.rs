//! `cairn fs cp`, through this process; `--reflink` is in `reflink.rs`.

use std::ffi::OsStr;

use cairn_sdk::Client;
use cairn_sdk::types::{FsError, FsPath};

use super::tally::Tally;
use super::transfer::{self, Found, Job};
use super::{destination, is_directory, no_directory, remote, sources};
use crate::cli::TransferArgs;
use crate::exit::CliError;
use crate::progress::Progress;

const PIECE_BYTES: usize = 4 << 20;

type Copied = Found<FsPath>;

pub async fn run(client: &Client, args: TransferArgs, json: bool) -> Result<(), CliError> {
    let (from, to) = sources(&args.paths)?;
    let tally = Tally::over(from)?;
    let to = remote(to)?;
    transfer::run(client, &args, json, from, tally, async |source| {
        plan(client, source, &to, from.len() > 1, args.recursive).await
    })
    .await
}

async fn plan(
    client: &Client,
    source: &OsStr,
    to: &FsPath,
    several: bool,
    recursive: bool,
) -> Result<Vec<Copied>, CliError> {
    let source = remote(source)?;
    let inode = client.stat(&source).await?;
    let base = destination(client, to, source.name().map(|n| n.as_bytes())).await?;
    if several && base == *to {
        return Err(no_directory(to));
    }
    if inode.is_dir() && !recursive {
        return Err(is_directory(source));
    }
    if base.starts_with(&source) {
        return Err(CliError::Usage(format!("{source} cannot be copied onto or into itself")));
    }
    let root = Copied { from: source, inode, to: base };
    transfer::walk(client, root, |directory, name| directory.join(name.clone())).await
}

impl Job for Copied {
    const DONE: &'static str = "copied";

    fn is_dir(&self) -> bool {
        self.inode.is_dir()
    }

    fn bytes(&self) -> u64 {
        self.content_bytes()
    }

    async fn make_directory(&self, client: &Client) -> Result<(), CliError> {
        match client.mkdir(&self.to, self.inode.mode).await {
            Err(error) if error.fs() == Some(&FsError::Exists) => Ok(()),
            outcome => Ok(outcome.map(|_| ())?),
        }
    }

    async fn carry(self, client: &Client, progress: &Progress) -> Result<(), CliError> {
        let Found { from, inode, to } = &self;
        if let Some(target) = &inode.target {
            client.symlink(target, to).await?;
            return Ok(());
        }
        let mut file = client.open(from).await?;
        let mut writer = client.put_writer(to, inode.mode).await?;
        loop {
            let piece = file.read(PIECE_BYTES).await?;
            if piece.is_empty() {
                break;
            }
            writer.write(&piece).await?;
            progress.add_bytes(piece.len() as u64);
        }
        writer.finish().await?;
        progress.add_file();
        Ok(())
    }
}
