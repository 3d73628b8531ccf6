//! What the target directory has seen of the sources: one file, `<target>/freshness/record`.
//!
//! Text, but for the sources' own bytes:
//!
//! ```text
//! cairn-freshness 1
//! root <length>
//! <path of the clone that built last>
//! unit <newest time> <length>
//! <profile/name-hash>
//! file|directory|link <known since> <length of path> <length of content>
//! <path>
//! <content>
//! end
//! ```
//!
//! Times are nanoseconds since 1970. Whatever is not exactly of this form is no record at all.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str;

use super::sources::Kind;

const VERSION: &str = "cairn-freshness 1";
const KINDS: [(Kind, &str); 3] = [(Kind::File, "file"), (Kind::Directory, "directory"), (Kind::Link, "link")];

/// A source as every compilation since a moment has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub kind: Kind,
    pub content: Vec<u8>,
    /// Whatever was compiled in this target directory at this time or later saw `content`.
    pub since_ns: u64,
}

/// What is known of a target directory.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Record {
    /// The clone that built last.
    pub root: PathBuf,
    /// The compilations that are known to keep [`Seen::since_ns`]: when each was touched last.
    pub units: BTreeMap<String, u64>,
    /// By path below the clone's top.
    pub sources: BTreeMap<PathBuf, Seen>,
}

impl Record {
    /// Reads a record; None if there is none, or none that can be understood.
    pub fn read(path: &Path) -> Option<Self> {
        Self::parse(&fs::read(path).ok()?)
    }

    /// Replaces the record in one step, durably.
    ///
    /// # Errors
    /// When it cannot be written; the old one is then still there.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let fresh = path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(&self.to_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    }

    fn to_bytes(&self) -> Vec<u8> {
        let root = self.root.as_os_str().as_bytes();
        let mut bytes = Vec::new();
        put(&mut bytes, VERSION, &[]);
        put(&mut bytes, &format!("root {}", root.len()), &[root]);
        for (unit, newest) in &self.units {
            put(&mut bytes, &format!("unit {newest} {}", unit.len()), &[unit.as_bytes()]);
        }
        for (path, seen) in &self.sources {
            let path = path.as_os_str().as_bytes();
            let kind = KINDS.iter().find(|(kind, _)| *kind == seen.kind).map_or("", |(_, word)| word);
            let head = format!("{kind} {} {} {}", seen.since_ns, path.len(), seen.content.len());
            put(&mut bytes, &head, &[path, &seen.content]);
        }
        put(&mut bytes, "end", &[]);
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        if line(&mut rest)? != VERSION {
            return None;
        }
        let mut record = Self::default();
        loop {
            let words: Vec<&str> = line(&mut rest)?.split(' ').collect();
            match words.as_slice() {
                ["end"] => return rest.is_empty().then_some(record),
                ["root", length] => record.root = PathBuf::from(OsStr::from_bytes(take(&mut rest, length)?)),
                ["unit", newest, length] => {
                    let unit = str::from_utf8(take(&mut rest, length)?).ok()?;
                    record.units.insert(unit.to_owned(), newest.parse().ok()?);
                }
                [kind, since, path_length, length] => {
                    let (kind, _) = KINDS.into_iter().find(|(_, word)| word == kind)?;
                    let path = PathBuf::from(OsStr::from_bytes(take(&mut rest, path_length)?));
                    let content = take(&mut rest, length)?.to_vec();
                    record.sources.insert(path, Seen { kind, content, since_ns: since.parse().ok()? });
                }
                _ => return None,
            }
        }
    }
}

fn put(bytes: &mut Vec<u8>, line: &str, parts: &[&[u8]]) {
    for part in [line.as_bytes()].iter().chain(parts) {
        bytes.extend_from_slice(part);
        bytes.push(b'\n');
    }
}

fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let length = rest.iter().position(|byte| *byte == b'\n')?;
    str::from_utf8(take_bytes(rest, length)?).ok()
}

fn take<'a>(rest: &mut &'a [u8], length: &str) -> Option<&'a [u8]> {
    take_bytes(rest, length.parse().ok()?)
}

/// So many bytes and the newline behind them.
fn take_bytes<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, behind) = rest.split_at_checked(length)?;
    *rest = behind.strip_prefix(b"\n")?;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Record {
        let seen = |kind, content: &[u8]| Seen { kind, content: content.to_vec(), since_ns: 7 };
        Record {
            root: "/clone with space".into(),
            units: [("release/a-0123456789abcdef".to_owned(), 9)].into(),
            sources: [
                ("src".into(), seen(Kind::Directory, b"a\nb")),
                (PathBuf::from(OsStr::from_bytes(b"src/\xff\n")), seen(Kind::File, b"end\n\xff\0")),
                ("x".into(), seen(Kind::Link, b"")),
            ]
            .into(),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let directory = std::env::temp_dir().join(format!("xtask-record-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("record");
        assert_eq!(Record::read(&path), None);
        for record in [Record::default(), sample()] {
            record.write(&path).unwrap();
            assert_eq!(Record::read(&path), Some(record));
        }
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_record_that_is_not_whole_is_none() {
        let bytes = sample().to_bytes();
        for length in 0..bytes.len() {
            assert_eq!(Record::parse(&bytes[..length]), None, "{length} bytes");
        }
        assert_eq!(Record::parse(&[&bytes[..], b"\n"].concat()), None);
        let other = [b"cairn-freshness 2", &bytes[VERSION.len()..]].concat();
        assert_eq!(Record::parse(&other), None);
    }
}
