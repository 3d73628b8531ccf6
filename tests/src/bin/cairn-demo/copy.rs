//! Acts two to four: put the tree, list it, read it back and compare every byte.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cairn_sdk::Client;
use cairn_sdk::types::FileKind;
use futures::{StreamExt, TryStreamExt, stream};

use crate::error::DemoError;
use crate::remote::{self, below};
use crate::report::{Report, Samples, rate};
use crate::say;
use crate::stage::Stage;
use crate::tree::{Entry, Kind, Tree};

/// What the tree is called first.
pub const FIRST_NAME: &str = "/sources";
/// Files put, and files read, at once.
const FILES_AT_ONCE: usize = 32;
const DIRECTORIES_AT_ONCE: usize = 16;
/// Bytes of one read or write call.
const PIECE_BYTES: usize = 4 << 20;

/// Puts the tree at [`FIRST_NAME`].
pub async fn put(stage: &Stage, tree: &Tree, report: &mut Report) -> Result<(), DemoError> {
    say::act(&format!(
        "Putting {} files in {} directories, {}: {}",
        say::number(tree.files),
        say::number(tree.directories),
        say::megabytes(tree.bytes),
        tree.description
    ));
    let client = stage.client();
    let started = Instant::now();
    client.mkdir(FIRST_NAME, 0o755).await?;
    make_directories(&client, tree).await?;
    let counter = say::Counter::start("files", tree.files);
    let done = counter.handle();
    let others = tree.entries.iter().filter(|entry| entry.kind != Kind::Directory).cloned();
    let took: Vec<Duration> = stream::iter(others)
        .map(|entry| tokio::spawn(put_one(client.clone(), entry, Arc::clone(&done))))
        .buffer_unordered(FILES_AT_ONCE)
        .map(|joined| joined?)
        .try_collect()
        .await?;
    drop(counter);
    let elapsed = started.elapsed();
    let took = Samples::new(took);
    let links = if tree.symlinks > 0 { format!(" and {} symlinks", tree.symlinks) } else { String::new() };
    say::ok(format!(
        "{} files{links} in {}, each on 3 disks and in 3 Raft logs before its put returned",
        say::number(tree.files),
        say::duration(elapsed)
    ));
    if tree.skipped > 0 {
        say::note(format!("{} entries left out: neither file, directory nor symlink", tree.skipped));
    }
    let how = format!("{FILES_AT_ONCE} at once, 3 replicas, fsync");
    report.row("put files", format!("{:.0} files/s", rate(tree.files, elapsed)), &how);
    report.row("put bytes", format!("{:.1} MB/s", rate(tree.bytes, elapsed) / 1e6), how);
    report.row("put one file, p50", say::duration(took.percentile(50.0)), "with the others under way");
    Ok(())
}

/// Level by level: a directory's parent is there before it.
async fn make_directories(client: &Client, tree: &Tree) -> Result<(), DemoError> {
    let mut levels: BTreeMap<usize, Vec<Entry>> = BTreeMap::new();
    for entry in tree.entries.iter().filter(|entry| entry.kind == Kind::Directory) {
        levels.entry(entry.relative.components().count()).or_default().push(entry.clone());
    }
    let counter = say::Counter::start("directories", tree.directories);
    let done = counter.handle();
    for level in levels.into_values() {
        stream::iter(level)
            .map(|entry| make_one(client, entry, &done))
            .buffer_unordered(DIRECTORIES_AT_ONCE)
            .try_collect::<()>()
            .await?;
    }
    Ok(())
}

async fn make_one(client: &Client, entry: Entry, done: &AtomicU64) -> Result<(), DemoError> {
    client.mkdir(remote_path(FIRST_NAME, &entry), entry.mode).await?;
    done.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn remote_path(top: &str, entry: &Entry) -> Vec<u8> {
    below(top, entry.relative.as_os_str().as_bytes())
}

async fn put_one(client: Client, entry: Entry, done: Arc<AtomicU64>) -> Result<Duration, DemoError> {
    let to = remote_path(FIRST_NAME, &entry);
    let started = Instant::now();
    match &entry.kind {
        Kind::Directory => {}
        Kind::Symlink { to: target } => {
            client.symlink(target.as_os_str().as_bytes(), to).await?;
        }
        Kind::File { bytes } if *bytes <= PIECE_BYTES as u64 => {
            let content = std::fs::read(&entry.local).map_err(|e| DemoError::io("read", &entry.local, e))?;
            client.put(to, entry.mode, content).await?;
        }
        Kind::File { .. } => {
            let mut writer = client.put_writer(to, entry.mode).await?;
            let mut local = File::open(&entry.local).map_err(|e| DemoError::io("open", &entry.local, e))?;
            loop {
                let piece = read_piece(&mut local, &entry)?;
                if piece.is_empty() {
                    break;
                }
                writer.write(&piece).await?;
            }
            writer.finish().await?;
        }
    }
    done.fetch_add(1, Ordering::Relaxed);
    Ok(started.elapsed())
}

/// Up to [`PIECE_BYTES`] of a local file; fewer only at its end.
fn read_piece(local: &mut File, entry: &Entry) -> Result<Vec<u8>, DemoError> {
    let mut piece = Vec::new();
    let taken = local.take(PIECE_BYTES as u64).read_to_end(&mut piece);
    taken.map_err(|e| DemoError::io("read", &entry.local, e))?;
    Ok(piece)
}

/// Lists the tree at `top` and compares names, kinds, sizes and permissions with what was put.
pub async fn list(
    stage: &Stage,
    tree: &Tree,
    top: &str,
    report: Option<&mut Report>,
) -> Result<(), DemoError> {
    let client = stage.client();
    if report.is_some() {
        say::act(&format!("Listing {top} with all attributes"));
    }
    let started = Instant::now();
    let found = remote::walk(&client, top).await?;
    let elapsed = started.elapsed();
    if found.entries.len() != tree.entries.len() {
        let what = format!("{top} lists {} entries, {} were put", found.entries.len(), tree.entries.len());
        return Err(DemoError::Mismatch(what));
    }
    for entry in &tree.entries {
        let path = entry.relative.as_os_str().as_bytes();
        let shown = entry.relative.display();
        let Some(inode) = found.entries.get(path) else {
            return Err(DemoError::Mismatch(format!("{top}/{shown} is not listed")));
        };
        let same = match &entry.kind {
            Kind::Directory => inode.kind == FileKind::Directory && inode.mode == entry.mode,
            Kind::File { bytes } => {
                inode.kind == FileKind::File && inode.size == *bytes && inode.mode == entry.mode
            }
            Kind::Symlink { to } => inode.target.as_deref() == Some(to.as_os_str().as_bytes()),
        };
        if !same {
            return Err(DemoError::Mismatch(format!("{top}/{shown} is listed as {inode:?}")));
        }
    }
    let entries = found.entries.len() as u64;
    say::ok(format!(
        "{} entries of {} directories in {}: names, kinds, sizes, permissions as they were put",
        say::number(entries),
        say::number(found.directories),
        say::duration(elapsed)
    ));
    if let Some(report) = report {
        let how = format!("{} directories, one listing each, 16 at once", say::number(found.directories));
        report.row("list with attributes", format!("{:.0} entries/s", rate(entries, elapsed)), how);
    }
    Ok(())
}

/// Reads every file back and compares it with the local one.
pub async fn read_back(stage: &Stage, tree: &Tree, report: &mut Report) -> Result<(), DemoError> {
    say::act("Reading every file back and comparing every byte");
    let client = stage.client();
    let counter = say::Counter::start("files", tree.files);
    let done = counter.handle();
    let started = Instant::now();
    let files = tree.entries.iter().filter(|entry| matches!(entry.kind, Kind::File { .. })).cloned();
    let compared: Vec<u64> = stream::iter(files)
        .map(|entry| tokio::spawn(compare_one(client.clone(), entry, Arc::clone(&done))))
        .buffer_unordered(FILES_AT_ONCE)
        .map(|joined| joined?)
        .try_collect()
        .await?;
    drop(counter);
    let elapsed = started.elapsed();
    let bytes: u64 = compared.iter().sum();
    say::ok(format!(
        "{} files, {} bytes compared in {}: all equal",
        say::number(compared.len() as u64),
        say::number(bytes),
        say::duration(elapsed)
    ));
    let how = format!("open, read and compare whole files, {FILES_AT_ONCE} at once");
    report.row("read files", format!("{:.0} files/s", rate(tree.files, elapsed)), &how);
    report.row("read bytes", format!("{:.1} MB/s", rate(bytes, elapsed) / 1e6), how);
    Ok(())
}

async fn compare_one(client: Client, entry: Entry, done: Arc<AtomicU64>) -> Result<u64, DemoError> {
    let file = client.open(remote_path(FIRST_NAME, &entry)).await?;
    let mut local = File::open(&entry.local).map_err(|e| DemoError::io("open", &entry.local, e))?;
    let mut offset = 0_u64;
    loop {
        let expected = read_piece(&mut local, &entry)?;
        let got = file.read_at(offset, PIECE_BYTES).await?;
        if got != expected {
            let equal = got.iter().zip(&expected).take_while(|(a, b)| a == b).count() as u64;
            let what = format!(
                "{}: {} bytes of {} expected came back, the first difference at {}",
                entry.relative.display(),
                got.len(),
                expected.len(),
                offset + equal
            );
            return Err(DemoError::Mismatch(what));
        }
        offset += got.len() as u64;
        if got.len() < PIECE_BYTES {
            done.fetch_add(1, Ordering::Relaxed);
            return Ok(offset);
        }
    }
}
