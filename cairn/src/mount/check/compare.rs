//! [`differences`]: in what the two sides of a directory differ, and why.

use cairn_sdk::types::FsError;
use cairn_sdk::{Client, FileObjects, ObjectAt};
use futures::{StreamExt, stream};

use super::sides::{FileAt, Sides};
use crate::exit::CliError;

/// Why something differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// It is on its way to the bucket.
    Pending,
    /// It has a record.
    Conflict,
    /// Somebody else wrote the object, and it was not read yet.
    Foreign,
    /// The object is not there, though nothing is on its way.
    Missing,
    /// None of these.
    Unlike,
}

impl Why {
    pub const ALL: [Self; 5] = [Self::Pending, Self::Conflict, Self::Foreign, Self::Missing, Self::Unlike];

    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Conflict => "conflict",
            Self::Foreign => "foreign",
            Self::Missing => "missing",
            Self::Unlike => "unlike",
        }
    }
}

/// A name whose sides differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub name: Vec<u8>,
    pub why: Why,
    /// For people.
    pub what: String,
    /// It may be pending as well, in a mount where something is: what it is then, for people.
    pub or_pending: Option<&'static str>,
}

impl Difference {
    /// It is pending, if it can be: the directory was read just now, and in the mount something is.
    pub fn pend(&mut self) {
        if let Some(pending) = self.or_pending {
            self.why = Why::Pending;
            pending.clone_into(&mut self.what);
        }
    }
}

/// In what the two sides differ; so many files are looked at at once.
pub async fn differences(
    client: &Client,
    sides: &Sides,
    prefix: &[u8],
    at_once: usize,
) -> Result<Vec<Difference>, CliError> {
    let mut looks = Vec::with_capacity(sides.files.len());
    for (name, file) in &sides.files {
        let object = sides.objects.get(name);
        let key = [prefix, object.map_or(name.as_slice(), |object| &object.name)].concat();
        looks.push(of_file(client, name, key, file, object));
    }
    let mut looks = stream::iter(looks).buffer_unordered(at_once);
    let mut found = Vec::new();
    while let Some(difference) = looks.next().await {
        found.extend(difference?);
    }
    let only_there = sides.objects.iter().filter(|(name, _)| !sides.files.contains_key(*name));
    found.extend(only_there.map(|(name, object)| Difference {
        name: name.clone(),
        why: Why::Foreign,
        what: format!("the bucket alone has it, with ETag {} and {} bytes", object.etag, object.size),
        or_pending: Some("to be deleted"),
    }));
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

async fn of_file(
    client: &Client,
    name: &[u8],
    key: Vec<u8>,
    file: &FileAt,
    object: Option<&ObjectAt>,
) -> Result<Option<Difference>, CliError> {
    let known = match client.file_objects(file.inode.ino).await {
        Ok(known) => known,
        // Removed since it was listed: the next look does not see it.
        Err(error) if matches!(error.fs(), Some(FsError::NotFound | FsError::Stale)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let judged = judge(&key, file.growing, &known, object);
    Ok(judged.map(|(why, what)| {
        // Nothing tells an empty file that is new from one whose object somebody deleted.
        let empty = why == Why::Missing && known.inode.size == 0;
        let or_pending = empty.then_some("an empty object is to be written");
        Difference { name: name.to_vec(), why, what, or_pending }
    }))
}

/// Why the file and the object differ, which is to be at `key`; `None` when they do not.
fn judge(key: &[u8], growing: bool, file: &FileObjects, object: Option<&ObjectAt>) -> Option<(Why, String)> {
    if growing || file.inode.tail.is_some() {
        return Some((Why::Pending, "it is being appended to".to_owned()));
    }
    if file.cluster_bytes > 0 {
        return Some((Why::Pending, format!("{} bytes are to be written", file.cluster_bytes)));
    }
    if let Some((elsewhere, _)) = file.objects.iter().find(|(at, _)| at != key) {
        let from = String::from_utf8_lossy(elsewhere);
        return Some((Why::Pending, format!("it is to come from {from}")));
    }
    let size = file.inode.size;
    let Some(object) = object else {
        return Some(if size > 0 && file.objects.is_empty() {
            (Why::Pending, format!("{size} bytes of nothing are to be written"))
        } else {
            (Why::Missing, "the bucket has no such object".to_owned())
        });
    };
    match file.objects.iter().next() {
        Some((_, etag)) if *etag != object.etag => {
            let (there, here) = (&object.etag, etag);
            Some((Why::Foreign, format!("the bucket has ETag {there}, {here} is known")))
        }
        // The length alone was changed here.
        Some(_) if object.size != size => {
            Some((Why::Pending, format!("{size} bytes are to replace {}", object.size)))
        }
        None if object.size != size && size == 0 => {
            Some((Why::Unlike, format!("the file is empty, the object has {} bytes", object.size)))
        }
        None if size > 0 => Some((Why::Pending, format!("{size} bytes of nothing are to be written"))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use cairn_sdk::types::{FileKind, Generation, Inode, InodeId, Timestamp};

    use super::*;

    fn file(size: u64, cluster_bytes: u64, objects: &[(&str, &str)]) -> FileObjects {
        let time = Timestamp(1);
        let inode = Inode {
            ino: InodeId(7),
            kind: FileKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            nlink: 1,
            size,
            mtime: time,
            ctime: time,
            atime: time,
            btime: time,
            version: 1,
            generation: Generation(0),
            tail: None,
            target: None,
            policy: None,
            mount: None,
        };
        let objects = objects.iter().map(|(key, etag)| (key.as_bytes().to_vec(), (*etag).to_owned()));
        FileObjects { inode, cluster_bytes, objects: objects.collect() }
    }

    fn object(etag: &str, size: u64) -> ObjectAt {
        ObjectAt { name: b"k".to_vec(), etag: etag.to_owned(), size, mtime: Timestamp(1) }
    }

    fn why(file: &FileObjects, object: Option<&ObjectAt>) -> Option<Why> {
        judge(b"p/k", false, file, object).map(|(why, _)| why)
    }

    #[test]
    fn each_difference_has_its_reason() {
        let same = file(5, 0, &[("p/k", "e")]);
        assert_eq!(why(&same, Some(&object("e", 5))), None);
        assert_eq!(why(&same, Some(&object("f", 5))), Some(Why::Foreign));
        assert_eq!(why(&same, None), Some(Why::Missing));
        assert_eq!(why(&same, Some(&object("e", 9))), Some(Why::Pending), "cut here");
        assert_eq!(why(&file(5, 5, &[]), None), Some(Why::Pending), "new");
        assert_eq!(
            why(&file(9, 4, &[("p/k", "e")]), Some(&object("e", 5))),
            Some(Why::Pending),
            "appended to"
        );
        assert_eq!(why(&file(5, 0, &[("p/old", "e")]), None), Some(Why::Pending), "renamed");
        assert_eq!(why(&file(0, 0, &[]), Some(&object("e", 0))), None, "empty");
        assert_eq!(why(&file(0, 0, &[]), None), Some(Why::Missing), "or new: the mount's figures tell");
        assert_eq!(why(&file(0, 0, &[]), Some(&object("e", 5))), Some(Why::Unlike));
        assert_eq!(why(&file(5, 0, &[]), None), Some(Why::Pending), "a hole");
        let growing = judge(b"p/k", true, &same, Some(&object("e", 5)));
        assert_eq!(growing.map(|(why, _)| why), Some(Why::Pending));
    }
}
