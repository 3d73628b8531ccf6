//! `cairn fs explain`.

mod as_json;

use std::ffi::OsStr;

use cairn_sdk::types::{
    ChunkId, Extent, ExtentSource, IntentId, NodeId, Policy, SessionId, Timestamp, WriterId,
};
use cairn_sdk::{ChunkState, Client, Explained, ExplainedChunk, ExplainedIntent};
use comfy_table::{CellAlignment, Table, presets};

use super::remote;
use crate::exit::CliError;
use crate::output::{human_bytes, line, object, time_text};
use crate::policy;
use crate::units::{about_time, exact_bytes, exact_time};

pub async fn run(client: &Client, path: &OsStr, json: bool) -> Result<(), CliError> {
    let path = remote(path)?;
    let explained = client.explain(&path).await?;
    if json {
        return object(&as_json::of(&path.to_bytes(), &explained));
    }
    show_file(&path.to_string(), &explained)?;
    show_extents(&explained)?;
    for chunk in explained.chunks.values() {
        chunk_lines(&explained, chunk).iter().try_for_each(line)?;
    }
    for intent in explained.intents.values() {
        intent_lines(&explained, intent).iter().try_for_each(line)?;
    }
    Ok(())
}

fn show_file(path: &str, explained: &Explained) -> Result<(), CliError> {
    let (inode, file, lag) = (&explained.inode, &explained.file, &explained.lag);
    line(path)?;
    line(format!(
        "  inode    {}, version {}, writer generation {}",
        inode.ino.0, inode.version, inode.generation.0
    ))?;
    let size = match (&inode.tail, lag.tail.and_then(|tail| tail.bytes)) {
        (None, _) => format!("{} bytes", inode.size),
        (Some(tail), Some(bytes)) => format!(
            "{} bytes, of these {bytes} in the open tail {}",
            inode.size.max(tail.base + bytes),
            tail.chunk
        ),
        (Some(tail), None) => {
            format!("{} bytes without those of the open tail {}, which are not known", inode.size, tail.chunk)
        }
    };
    line(format!("  size     {size}"))?;
    if let Some(Ok(in_force)) = file.policy.as_ref().map(Policy::try_from) {
        line(format!("  policy   {}; {}", policy::text(&in_force), origin_text(explained)))?;
        let age = if lag.bytes == 0 { "none".to_owned() } else { about_time(lag.age_ms) };
        line(format!(
            "  lag      {} of {}, oldest byte {age}, {} is aimed at",
            human_bytes(lag.bytes),
            exact_bytes(in_force.max_lag_bytes),
            exact_time(in_force.max_lag_ms)
        ))?;
    }
    let mut writers = file.writers.clone();
    writers.sort_by_key(|mark| std::cmp::Reverse((mark.offset, mark.sequence)));
    if writers.is_empty() {
        line("  writers  none of a live session appends")?;
    }
    for (n, mark) in writers.iter().enumerate() {
        let label = if n == 0 { "writers" } else { "" };
        line(format!("  {label:<8} {}", writer_text(mark.writer, mark.sequence, mark.offset)))?;
    }
    Ok(())
}

fn origin_text(explained: &Explained) -> String {
    let origin = explained.file.origin.clone().unwrap_or_default();
    if origin.ino == explained.inode.ino.0 {
        return "set here".to_owned();
    }
    format!("inherited from {}", String::from_utf8_lossy(&origin.path))
}

fn writer_text(writer: u64, sequence: u64, offset: u64) -> String {
    let (writer, session) = (WriterId(writer), WriterId(writer).session());
    match sequence {
        0 => format!("{writer} of {session}: nothing is decided yet"),
        _ => format!("{writer} of {session}: append {sequence} at byte {offset} is its last decided one"),
    }
}

/// The extents with what lies between them, as a table.
fn show_extents(explained: &Explained) -> Result<(), CliError> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["from", "length", "is", "at", ""]);
    let mut end = 0;
    for extent in &explained.extents {
        if extent.file_offset > end {
            let hole = extent.file_offset - end;
            table.add_row([end.to_string(), hole.to_string(), "a hole".to_owned()]);
        }
        end = extent.end();
        table.add_row(extent_cells(explained, extent));
    }
    if explained.inode.size > end {
        let hole = explained.inode.size - end;
        table.add_row([end.to_string(), hole.to_string(), "a hole".to_owned()]);
        end = explained.inode.size;
    }
    if let Some(tail) = &explained.inode.tail {
        let bytes = explained.lag.tail.and_then(|tail| tail.bytes);
        let length = bytes.map_or("?".to_owned(), |bytes| bytes.to_string());
        let from = tail.base.max(end).to_string();
        table.add_row([from, length, tail.chunk.to_string(), "0".to_owned(), "open tail".to_owned()]);
    }
    for column in [0, 1, 3] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if table.is_empty() { line("no extents: it holds no bytes") } else { line(table.to_string()) }
}

fn extent_cells(explained: &Explained, extent: &Extent) -> [String; 5] {
    let (from, length) = (extent.file_offset.to_string(), extent.length.to_string());
    match &extent.source {
        ExtentSource::Chunk { chunk, offset } => {
            let known = explained.chunks.get(&chunk.0).and_then(|known| known.chunk.as_ref());
            let place = known.and_then(|chunk| chunk.place.as_ref());
            let there = if place.is_some() { "in S3" } else { "not in S3" };
            [from, length, chunk.to_string(), offset.to_string(), there.to_owned()]
        }
        ExtentSource::Object { object, offset } => {
            let url = explained.object_url(object.mount.0, &object.key);
            [from, length, url, offset.to_string(), format!("ETag {}", object.etag)]
        }
    }
}

/// What is known of a chunk.
fn chunk_lines(explained: &Explained, known: &ExplainedChunk) -> Vec<String> {
    let Some(chunk) = &known.chunk else { return Vec::new() };
    let mut lines = Vec::new();
    let opened = time_text(Timestamp(known.opened_ns));
    let state = match chunk.state() {
        ChunkState::Open => format!("open since {opened}"),
        ChunkState::Spare => format!("made ahead {opened}, not activated"),
        ChunkState::Sealing => format!("being sealed, opened {opened}"),
        ChunkState::Sealed => {
            format!(
                "sealed at {} bytes, {}, opened {opened}",
                chunk.length,
                time_text(Timestamp(known.sealed_ns))
            )
        }
        ChunkState::Unspecified => "in an unknown state".to_owned(),
    };
    lines.push(format!("{}: {state}", ChunkId(chunk.chunk)));
    let activation = chunk.activation.unwrap_or_default();
    let of = match activation.session {
        0 => format!("this file's alone, from byte {}", activation.base),
        session => {
            let held = if known.held { ", which may commit more of it" } else { "" };
            format!("shared by the files of {}{held}", SessionId(session))
        }
    };
    lines.push(format!("  bytes    {of}; files point at {} of them", known.live_bytes));
    if let Some(mark) = chunk.marks.first() {
        let word = if chunk.state() == ChunkState::Sealed { "ends" } else { "begins after" };
        let (writer, session) = (WriterId(mark.writer), WriterId(mark.writer).session());
        lines.push(format!("  writer   it {word} with append {} of {writer} of {session}", mark.sequence));
    }
    lines.push(format!("  epoch    {}, writer generation {}", chunk.epoch, activation.generation));
    if let Some(Ok(policy)) = chunk.policy.as_ref().map(Policy::try_from) {
        lines.push(format!("  policy   {}", policy::text(&policy)));
    }
    for (n, replica) in known.replicas.iter().enumerate() {
        let label = if n == 0 { "replicas" } else { "" };
        let mut words = vec![NodeId(replica.node).to_string()];
        words.extend((!replica.address.is_empty()).then(|| replica.address.clone()));
        let sealed = chunk.state() == ChunkState::Sealed;
        let about = [
            (replica.primary, "primary"),
            (sealed && replica.holder, "has all"),
            (sealed && !replica.holder, "has not all: it goes"),
            (replica.removed, "removed by an operator"),
            (!replica.removed && !replica.alive, "silent"),
            (replica.retired, "disk retired"),
        ];
        words.extend(about.into_iter().filter(|(holds, _)| *holds).map(|(_, word)| word.to_owned()));
        lines.push(format!("  {label:<8} {}", words.join(", ")));
    }
    lines.push(format!("  S3       {}", place_text(explained, known)));
    lines
}

fn place_text(explained: &Explained, known: &ExplainedChunk) -> String {
    let chunk = known.chunk.clone().unwrap_or_default();
    if let Some(place) = &chunk.place {
        return format!(
            "{} at byte {} of {}, {} bytes, CRC32C {:08x}, ETag {}",
            explained.pack_url(&place.key),
            place.offset,
            known.pack_bytes,
            place.length,
            known.crc32c,
            known.etag
        );
    }
    let never = chunk.policy.is_some_and(|policy| policy.persist == 2);
    match (never, chunk.state(), known.upload) {
        (true, ..) => "never: its policy says so".to_owned(),
        (_, ChunkState::Sealed, 0) => "not yet: it waits for an upload".to_owned(),
        (_, _, 0) => "not yet: it is not sealed".to_owned(),
        (_, _, upload) => format!("not yet: {} is at it", IntentId(upload)),
    }
}

/// What is known of an intent.
fn intent_lines(explained: &Explained, intent: &ExplainedIntent) -> Vec<String> {
    let what = match intent.kind.as_str() {
        "upload" => format!(
            "uploads {} chunks, {}, as {}",
            intent.chunks,
            human_bytes(intent.bytes),
            explained.pack_url(&intent.key)
        ),
        "import" => format!("reads the keys below {}", intent.key),
        _ => format!("deletes {}", explained.pack_url(&intent.key)),
    };
    let mut lines = vec![format!("{}: {what}", IntentId(intent.intent))];
    let since = time_text(Timestamp(intent.assigned_ns));
    lines.push(format!("  by       {} since {since}", NodeId(intent.assignee)));
    if intent.failures > 0 {
        let end = if intent.failed { "for good" } else { "and is tried again" };
        lines.push(format!("  failed   {end}: {}", intent.message));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_told_with_its_session() {
        let writer = WriterId::of(SessionId(3), 2).unwrap().0;
        assert!(writer_text(writer, 0, 0).ends_with("nothing is decided yet"));
        let text = writer_text(writer, 9, 100);
        assert!(text.contains("session-3") && text.contains("append 9 at byte 100"), "{text}");
    }
}
