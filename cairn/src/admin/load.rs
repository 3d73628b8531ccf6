//! `cairn admin load`: a dump is checked whole, then becomes the namespace.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Seek};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cairn_meta::dump::{self, DumpReader, Losses, Verified, VerifyError};
use cairn_sdk::types::{DiskId, FsError, NodeId};
use cairn_sdk::{Client, LoadId, LoadState};
use indicatif::ProgressBar;
use serde_json::json;

use crate::cli::LoadArgs;
use crate::exit::CliError;
use crate::output::{line, object};
use crate::progress::spinner;

/// Bytes of lines in one step: an entry of the log has a few hundred facts.
const STEP_BYTES: usize = 256 << 10;
/// Facts in one step, at most.
const STEP_FACTS: u64 = 2000;

/// Loads a dump, or takes out what a load that broke off has loaded.
pub async fn run(client: &Client, args: &LoadArgs, json: bool) -> Result<(), CliError> {
    let Some(path) = args.file.as_deref() else { return discard(client, json).await };
    let shown =
        if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() };
    let state = client.load_state().await?;
    refuse_what_is_there(&shown, state)?;
    let file = open(path, &shown).await?;
    let verified = verify(client, &file, &shown).await?;
    let id = id_of(&verified);
    if state.load.is_some_and(|under_way| under_way != id) {
        return Err(not_loaded(
            &shown,
            "another dump is being loaded; --discard takes out what was loaded of it",
        ));
    }
    show(&verified, args.dry_run, json)?;
    if verified.losses.chunks > 0 && !args.accept_loss {
        return Err(CliError::Unconfirmed { flags: "--accept-loss".to_owned() });
    }
    if args.dry_run {
        return Ok(());
    }
    let loading = Loading { client, id, accept_loss: args.accept_loss };
    match loading.all(file, &shown).await {
        Ok(()) if json => object(&json!({"loaded": id.facts})),
        Ok(()) => line(format!("{} facts are loaded", id.facts)),
        Err(error) => Err(broke(client, shown, error).await),
    }
}

fn not_loaded(file: &str, why: &'static str) -> CliError {
    CliError::NotLoaded { file: file.to_owned(), why }
}

/// What need not be read to be refused.
fn refuse_what_is_there(file: &str, state: LoadState) -> Result<(), CliError> {
    match state.load {
        Some(_) if state.discarding => {
            Err(not_loaded(file, "what was loaded of a dump is being taken out; --discard goes on with that"))
        }
        None if !state.empty => Err(not_loaded(
            file,
            "the namespace is not empty: a dump needs one that holds nothing but its root",
        )),
        _ => Ok(()),
    }
}

/// Says whether clients are kept out now.
async fn broke(client: &Client, file: String, error: CliError) -> CliError {
    match client.load_state().await {
        Ok(LoadState { load: None, .. }) => error,
        _ => CliError::LoadBroke { file, source: Box::new(error) },
    }
}

/// A dump is read twice: standard input is put into a file that nobody else sees.
async fn open(path: &Path, shown: &str) -> Result<Arc<File>, CliError> {
    let (path, shown) = (path.to_owned(), shown.to_owned());
    let opened = tokio::task::spawn_blocking(move || {
        if path.as_os_str() != "-" {
            return File::open(&path).map_err(|e| CliError::io("open", &shown, e));
        }
        let mut file = tempfile::tempfile().map_err(|e| CliError::io("make a file for", &shown, e))?;
        io::copy(&mut io::stdin().lock(), &mut file).map_err(|e| CliError::io("read", &shown, e))?;
        Ok(file)
    });
    Ok(Arc::new(opened.await??))
}

/// The file from its beginning.
fn rewound(file: &File, shown: &str) -> Result<BufReader<File>, CliError> {
    let mut file = file.try_clone().map_err(|e| CliError::io("open", shown, e))?;
    file.rewind().map_err(|e| CliError::io("read again", shown, e))?;
    Ok(BufReader::with_capacity(1 << 20, file))
}

async fn verify(client: &Client, file: &Arc<File>, shown: &str) -> Result<Verified, CliError> {
    let known = client.status().await?.nodes;
    let disks = known.iter().filter_map(|n| Some((DiskId::from_bytes(&n.disk)?, NodeId(n.node)))).collect();
    let (file, shown) = (Arc::clone(file), shown.to_owned());
    let verified = tokio::task::spawn_blocking(move || {
        let scratch = tempfile::Builder::new().prefix("cairn-load-").tempdir();
        let scratch = scratch.map_err(|e| CliError::io("make a scratch directory for", &shown, e))?;
        let bar = spinner();
        let mut told = |what: &str, count: u64| {
            if let Some(bar) = &bar {
                bar.set_message(format!("checking the dump: {what}, {count}"));
            }
        };
        let verified = dump::verify(rewound(&file, &shown)?, scratch.path(), &disks, &mut told);
        if let Some(bar) = &bar {
            bar.finish_and_clear();
        }
        verified.map_err(|source: VerifyError| CliError::Dump { file: shown, source })
    });
    verified.await?
}

fn id_of(verified: &Verified) -> LoadId {
    let load = verified.load;
    LoadId { cluster: load.cluster, log_index: load.log_index, facts: load.facts, crc32c: load.crc32c }
}

fn show(verified: &Verified, dry_run: bool, json: bool) -> Result<(), CliError> {
    let Verified { header, load, kinds, losses } = verified;
    let Losses { chunks, growing, bytes } = *losses;
    if json {
        return object(&json!({
            "cluster": header.cluster.to_string(), "log_index": load.log_index, "time_ns": header.time_ns,
            "facts": load.facts, "kinds": kinds, "dry_run": dry_run,
            "lost": {"chunks": chunks, "growing": growing, "bytes": bytes},
        }));
    }
    line(format!(
        "a dump of cluster {} at log index {}: {} facts, and nothing is wrong with them",
        header.cluster, load.log_index.0, load.facts
    ))?;
    if chunks == 0 {
        return Ok(());
    }
    line(format!(
        "{chunks} chunks are in no pack and on no data node of this cluster: {bytes} bytes of files"
    ))?;
    if growing > 0 {
        line(format!("{growing} of them were growing: how many bytes they had is not known here"))?;
    }
    Ok(())
}

/// A load that is under way.
struct Loading<'c> {
    client: &'c Client,
    id: LoadId,
    accept_loss: bool,
}

impl Loading<'_> {
    /// Reads the dump once more, and sends what is not loaded yet.
    async fn all(&self, file: Arc<File>, shown: &str) -> Result<(), CliError> {
        let header = {
            let (file, shown) = (Arc::clone(&file), shown.to_owned());
            tokio::task::spawn_blocking(move || first_line(&file, &shown)).await??
        };
        let loaded = self.client.begin_load(self.id, header).await?.loaded;
        let bar = io::stderr().is_terminal().then(|| ProgressBar::new(self.id.facts));
        let (steps, mut waiting) = tokio::sync::mpsc::channel(2);
        let (name, facts) = (shown.to_owned(), self.id);
        let reading = tokio::task::spawn_blocking(move || read(&file, &name, facts, loaded, &steps));
        while let Some(Step { first, lines, facts }) = waiting.recv().await {
            self.client.load_lines(self.id, first, lines, self.accept_loss).await?;
            if let Some(bar) = &bar {
                bar.set_position(first + facts);
            }
        }
        reading.await??;
        if let Some(bar) = &bar {
            bar.finish_and_clear();
        }
        match self.client.end_load(self.id).await {
            // An attempt whose answer was lost has ended it.
            Err(error)
                if error.fs() == Some(&FsError::NotFound) && !self.client.load_state().await?.empty =>
            {
                Ok(())
            }
            ended => Ok(ended.map(drop)?),
        }
    }
}

/// Lines that go together.
struct Step {
    first: u64,
    facts: u64,
    lines: Bytes,
}

fn first_line(file: &File, shown: &str) -> Result<Bytes, CliError> {
    let mut line = Vec::new();
    io::BufRead::read_until(&mut rewound(file, shown)?, b'\n', &mut line)
        .map_err(|e| CliError::io("read", shown, e))?;
    Ok(line.into())
}

/// Reads the dump to its end, which must be that of the one that was checked.
fn read(
    file: &File,
    shown: &str,
    id: LoadId,
    loaded: u64,
    steps: &tokio::sync::mpsc::Sender<Step>,
) -> Result<(), CliError> {
    let error = |source| CliError::Dump { file: shown.to_owned(), source: VerifyError::Dump(source) };
    let mut reader = DumpReader::open(rewound(file, shown)?).map_err(error)?;
    let mut step = (loaded, 0, Vec::new());
    while let Some(line) = reader.next_line().map_err(error)? {
        if reader.counted().facts <= loaded {
            continue;
        }
        let (first, facts, lines) = &mut step;
        lines.extend_from_slice(&line.bytes);
        lines.push(b'\n');
        *facts += 1;
        if lines.len() >= STEP_BYTES || *facts >= STEP_FACTS {
            let next = *first + *facts;
            let (first, facts, lines) = std::mem::replace(&mut step, (next, 0, Vec::new()));
            if steps.blocking_send(Step { first, facts, lines: lines.into() }).is_err() {
                // Who sends has failed, and says why.
                return Ok(());
            }
        }
    }
    let now = reader.id();
    if (now.facts, now.crc32c) != (id.facts, id.crc32c) {
        return Err(not_checked(shown));
    }
    let (first, facts, lines) = step;
    if facts > 0 && steps.blocking_send(Step { first, facts, lines: lines.into() }).is_err() {
        return Ok(());
    }
    Ok(())
}

fn not_checked(shown: &str) -> CliError {
    let changed = io::Error::other("it is not the dump any more that was checked");
    CliError::io("read again", shown, changed)
}

/// Makes the namespace empty again.
async fn discard(client: &Client, json: bool) -> Result<(), CliError> {
    let state = client.load_state().await?;
    if state.load.is_none() {
        return Err(CliError::Usage("no load is under way: there is nothing to discard".to_owned()));
    }
    loop {
        match client.discard_load().await {
            Ok(LoadState { load: Some(_), .. }) => {}
            Ok(_) => break,
            // An attempt whose answer was lost was the last.
            Err(error) if error.fs() == Some(&FsError::NotFound) => break,
            Err(error) => return Err(error.into()),
        }
    }
    if json {
        return object(&json!({"discarded": state.loaded}));
    }
    line(format!("{} facts are taken out again: the namespace is empty", state.loaded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_refused_before_the_dump_is_read() {
        let id = LoadId { cluster: Default::default(), log_index: Default::default(), facts: 1, crc32c: 2 };
        let state = LoadState { load: None, loaded: 0, discarding: false, empty: true };
        let refused =
            |state| refuse_what_is_there("f", state).map_err(|error| (error.code(), error.to_string()));
        assert_eq!(refused(state), Ok(()));
        assert_eq!(
            refused(LoadState { load: Some(id), empty: false, ..state }),
            Ok(()),
            "it is gone on with"
        );
        let (code, text) = refused(LoadState { empty: false, ..state }).unwrap_err();
        assert!(code == 1 && text.contains("not empty") && text.ends_with("nothing is changed"), "{text}");
        let (code, text) = refused(LoadState { load: Some(id), discarding: true, ..state }).unwrap_err();
        assert!(code == 1 && text.contains("--discard"), "{text}");
    }
}
