//! `cairn fs watch`.

use std::collections::HashMap;

use cairn_sdk::types::{FileKind, InodeId, LogIndex};
use cairn_sdk::{Change, Client, Watch, WatchEvent, WatchOptions};
use serde_json::{Value, json};

use super::remote;
use crate::cli::WatchArgs;
use crate::exit::CliError;
use crate::output::{line, object};

/// Directories whose names are remembered, at most; names in others are shown by their inode.
const KNOWN_MAX: usize = 100_000;

pub async fn run(client: &Client, args: &WatchArgs, json: bool) -> Result<(), CliError> {
    let path = remote(&args.path)?.to_bytes();
    let options = WatchOptions { recursive: args.recursive, after: args.after.map(LogIndex) };
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let mut watch = tokio::select! {
        watch = client.watch(path.clone(), options) => watch?,
        _ = &mut interrupted => return Ok(()),
    };
    tell(json, "watching", &watch)?;
    let mut known = Known { top: watch.watched(), path, places: HashMap::new() };
    loop {
        let event = tokio::select! {
            event = watch.next() => event,
            _ = &mut interrupted => return tell(json, "interrupted", &watch),
        };
        match event {
            Ok(Some(event)) => {
                show(json, &known, &event)?;
                known.learn(&event);
            }
            Ok(None) => return tell(json, "gone", &watch),
            Err(error) => {
                tell(json, "failed", &watch)?;
                return Err(error.into());
            }
        }
    }
}

/// Tells where to go on; beside the events unless all is JSON.
fn tell(json: bool, what: &str, watch: &Watch) -> Result<(), CliError> {
    let index = watch.index().0;
    if json {
        return object(&json!({ "event": what, "ino": watch.watched().0, "index": index }));
    }
    eprintln!("cairn: {what}; to go on from here: --after {index}");
    Ok(())
}

/// The names of directories, as far as events told them.
struct Known {
    top: InodeId,
    path: Vec<u8>,
    places: HashMap<InodeId, (InodeId, Vec<u8>)>,
}

impl Known {
    /// The path of a name; below a directory that no event told of, it begins with its inode.
    fn path(&self, parent: InodeId, name: &[u8]) -> Vec<u8> {
        let (mut at, mut parts) = (parent, vec![name]);
        while at != self.top && parts.len() <= self.places.len() {
            let Some((above, name)) = self.places.get(&at) else { break };
            parts.push(name);
            at = *above;
        }
        let mut path = if at == self.top { self.path.clone() } else { format!("#{}", at.0).into_bytes() };
        for part in parts.into_iter().rev() {
            if path.last() != Some(&b'/') {
                path.push(b'/');
            }
            path.extend_from_slice(part);
        }
        path
    }

    /// The path that an event is about.
    fn of(&self, event: &WatchEvent) -> Vec<u8> {
        if event.ino == self.top { self.path.clone() } else { self.path(event.parent, &event.name) }
    }

    fn learn(&mut self, event: &WatchEvent) {
        let here = (event.parent, event.name.clone());
        match &event.change {
            Change::Created => self.put(event.ino, event.kind, here),
            Change::Removed { .. } => {
                self.places.remove(&event.ino);
            }
            Change::Renamed { to_parent, to_name, .. } => {
                self.put(event.ino, event.kind, (*to_parent, to_name.clone()));
            }
            Change::Exchanged { to_parent, to_name, other, other_kind, .. } => {
                self.put(event.ino, event.kind, (*to_parent, to_name.clone()));
                self.put(*other, *other_kind, here);
            }
            Change::MountRemoved { fresh, .. } => {
                self.places.remove(&event.ino);
                self.put(*fresh, FileKind::Directory, here);
            }
            _ => {}
        }
    }

    fn put(&mut self, ino: InodeId, kind: FileKind, place: (InodeId, Vec<u8>)) {
        let room = self.places.len() < KNOWN_MAX || self.places.contains_key(&ino);
        if kind == FileKind::Directory && ino != self.top && room {
            self.places.insert(ino, place);
        }
    }
}

fn word(change: &Change) -> &'static str {
    match change {
        Change::Created => "created",
        Change::Removed { .. } => "removed",
        Change::Renamed { .. } => "renamed",
        Change::Exchanged { .. } => "exchanged",
        Change::Content => "content",
        Change::Attributes => "attributes",
        Change::Policy => "policy",
        Change::MountAdded { .. } => "mount-added",
        Change::MountRemoved { .. } => "mount-removed",
        Change::Imported => "imported",
    }
}

fn show(json: bool, known: &Known, event: &WatchEvent) -> Result<(), CliError> {
    let path = known.of(event);
    let to = match &event.change {
        Change::Renamed { to_parent, to_name, .. } | Change::Exchanged { to_parent, to_name, .. } => {
            Some(known.path(*to_parent, to_name))
        }
        _ => None,
    };
    if json {
        return object(&as_json(event, &path, to.as_deref()));
    }
    let mut text = format!("{} {} {} ", event.index.0, word(&event.change), event.kind.word()).into_bytes();
    text.extend_from_slice(&path);
    if let Some(to) = to {
        text.extend_from_slice(b" -> ");
        text.extend_from_slice(&to);
    }
    line(text)
}

fn as_json(event: &WatchEvent, path: &[u8], to: Option<&[u8]>) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut value = json!({
        "event": word(&event.change),
        "index": event.index.0,
        "number": event.number,
        "ino": event.ino.0,
        "kind": event.kind,
        "version": event.version,
        "path": text(path),
        "parent": event.parent.0,
        "name": text(&event.name),
        "inside": event.inside,
    });
    let more = match &event.change {
        Change::Removed { last } => json!({ "last": last }),
        Change::Renamed { to_parent, to_name, to_inside } => {
            json!({ "to": to.map(text), "to_parent": to_parent.0, "to_name": text(to_name), "to_inside": to_inside })
        }
        Change::Exchanged { to_parent, to_name, to_inside, other, other_kind, other_version } => json!({
            "to": to.map(text), "to_parent": to_parent.0, "to_name": text(to_name), "to_inside": to_inside,
            "other": other.0, "other_kind": other_kind, "other_version": other_version,
        }),
        Change::MountAdded { mount } => json!({ "mount": mount.0 }),
        Change::MountRemoved { mount, fresh } => json!({ "mount": mount.0, "other": fresh.0 }),
        _ => json!({}),
    };
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(ino: u64, kind: FileKind, parent: u64, name: &str, change: Change) -> WatchEvent {
        let name = name.as_bytes().to_vec();
        let (ino, parent) = (InodeId(ino), InodeId(parent));
        WatchEvent {
            index: LogIndex(9),
            number: 0,
            ino,
            kind,
            version: 1,
            parent,
            name,
            inside: true,
            change,
        }
    }

    #[test]
    fn paths_follow_the_directories_that_events_told_of() {
        let mut known = Known { top: InodeId(5), path: b"/w".to_vec(), places: HashMap::new() };
        let path = |known: &Known, parent: u64| {
            String::from_utf8_lossy(&known.path(InodeId(parent), b"f")).into_owned()
        };
        assert_eq!((path(&known, 5), path(&known, 6)), ("/w/f".into(), "#6/f".into()));
        known.learn(&event(6, FileKind::Directory, 5, "d", Change::Created));
        known.learn(&event(7, FileKind::Directory, 6, "e", Change::Created));
        known.learn(&event(8, FileKind::File, 6, "x", Change::Created));
        assert_eq!((path(&known, 7), path(&known, 8)), ("/w/d/e/f".into(), "#8/f".into()));
        let to = Change::Renamed { to_parent: InodeId(5), to_name: b"n".to_vec(), to_inside: true };
        known.learn(&event(6, FileKind::Directory, 5, "d", to));
        assert_eq!(path(&known, 7), "/w/n/e/f");
        known.learn(&event(6, FileKind::Directory, 5, "n", Change::Removed { last: true }));
        assert_eq!(path(&known, 7), "#6/e/f");
        let root = Known { top: InodeId(1), path: b"/".to_vec(), places: HashMap::new() };
        assert_eq!(path(&root, 1), "/f");
    }
}
