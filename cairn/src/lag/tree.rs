//! The lag of all files below a directory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use cairn_sdk::types::FsPath;
use cairn_sdk::{Client, FileLag};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use super::{file_json, part_text};
use crate::exit::CliError;
use crate::output::{human_bytes, line, object};
use crate::progress::spinner;
use crate::units::{about_time, exact_time};

/// What was found.
#[derive(Default)]
struct Sum {
    names: u64,
    passed_over: u64,
    files: u64,
    bytes: u64,
    never_bytes: u64,
    oldest_ms: u64,
    /// Tails whose primaries did not say how long they are.
    unknown_tails: u64,
    /// The files with the most bytes, the least of them first to go.
    top: BinaryHeap<Reverse<Shown>>,
}

/// A file that is shown, in the order of bytes.
struct Shown(FileLag);

impl Shown {
    fn order(&self) -> (u64, u64, Reverse<&[u8]>) {
        (self.0.bytes, self.0.age_ms, Reverse(&self.0.path))
    }
}

impl PartialEq for Shown {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Shown {}

impl PartialOrd for Shown {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Shown {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl Sum {
    fn add(&mut self, file: FileLag, top: usize) {
        self.never_bytes += file.never_bytes;
        self.unknown_tails += u64::from(file.tail.is_some_and(|tail| tail.bytes.is_none()));
        if file.bytes == 0 {
            return;
        }
        self.files += 1;
        self.bytes += file.bytes;
        self.oldest_ms = self.oldest_ms.max(file.age_ms);
        self.top.push(Reverse(Shown(file)));
        if self.top.len() > top {
            self.top.pop();
        }
    }

    /// Those with the most bytes, the most first.
    fn shown(self) -> (Self, Vec<FileLag>) {
        let mut top: Vec<Shown> = self.top.into_iter().map(|Reverse(shown)| shown).collect();
        top.sort_unstable();
        top.reverse();
        (Self { top: BinaryHeap::new(), ..self }, top.into_iter().map(|shown| shown.0).collect())
    }
}

pub async fn run(client: &Client, path: &FsPath, top: usize, json: bool) -> Result<(), CliError> {
    let mut walk = client.lag(path).await?;
    let mut sum = Sum::default();
    let bar = spinner();
    while let Some(found) = walk.next().await? {
        (sum.names, sum.passed_over) = (found.names, found.passed_over);
        found.files.into_iter().for_each(|file| sum.add(file, top));
        if let Some(bar) = &bar {
            bar.set_message(format!("{} names, {} not in S3", sum.names, human_bytes(sum.bytes)));
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let (sum, top) = sum.shown();
    if json { object(&as_json(path, &sum, &top)) } else { show(path, &sum, &top) }
}

fn show(path: &FsPath, sum: &Sum, top: &[FileLag]) -> Result<(), CliError> {
    let age = if sum.files == 0 { "none".to_owned() } else { about_time(sum.oldest_ms) };
    line(format!(
        "{path}: {} not in S3, in {} files of {} names, oldest {age}",
        human_bytes(sum.bytes),
        sum.files,
        sum.names
    ))?;
    if sum.unknown_tails > 0 {
        line(format!("  not counted: {} open tails whose primaries do not answer", sum.unknown_tails))?;
    }
    if sum.passed_over > 0 {
        line(format!("  not looked into: {} directories that this user may not list", sum.passed_over))?;
    }
    if sum.never_bytes > 0 {
        line(format!("  of these files never persisted: {}", human_bytes(sum.never_bytes)))?;
    }
    if top.is_empty() {
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "not in S3",
        "of its bound",
        "oldest",
        "aimed at",
        "path",
    ]);
    for file in top {
        table.add_row([
            human_bytes(file.bytes),
            part_text(file.bytes, file.policy.max_lag_bytes),
            about_time(file.age_ms),
            exact_time(file.policy.max_lag_ms),
            String::from_utf8_lossy(&file.path).into_owned(),
        ]);
    }
    for column in 0..4 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    line(table.to_string())
}

fn as_json(path: &FsPath, sum: &Sum, top: &[FileLag]) -> Value {
    json!({
        "path": path.to_string(), "names": sum.names, "files": sum.files, "bytes": sum.bytes,
        "age_ms": sum.oldest_ms, "never_bytes": sum.never_bytes, "unknown_tails": sum.unknown_tails,
        "passed_over": sum.passed_over,
        "top": top.iter().map(|file| file_json(&file.path, file)).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use cairn_sdk::TailLag;
    use cairn_sdk::types::{ChunkId, InodeId, Policy};

    use super::*;

    fn file(ino: u64, bytes: u64, age_ms: u64) -> FileLag {
        let path = format!("/f{ino}").into_bytes();
        let (ino, policy) = (InodeId(ino), Policy::cluster());
        FileLag { ino, path, bytes, age_ms, never_bytes: 1, policy, tail: None }
    }

    #[test]
    fn all_files_count_and_those_with_the_most_bytes_are_shown() {
        let mut sum = Sum::default();
        for (ino, bytes) in [(1, 5), (2, 9), (3, 0), (4, 7), (5, 9)] {
            sum.add(file(ino, bytes, ino * 10), 3);
        }
        let silent = TailLag { chunk: ChunkId(1), bytes: None };
        sum.add(FileLag { tail: Some(silent), ..file(6, 0, 999) }, 3);
        assert_eq!((sum.files, sum.bytes, sum.oldest_ms), (4, 30, 50));
        assert_eq!((sum.never_bytes, sum.unknown_tails), (6, 1));
        let (_, top) = sum.shown();
        assert_eq!(top.iter().map(|file| file.ino.0).collect::<Vec<_>>(), [5, 2, 4]);
        let mut none = Sum::default();
        none.add(file(1, 5, 1), 0);
        assert_eq!((none.bytes, none.shown().1.len()), (5, 0));
    }
}
