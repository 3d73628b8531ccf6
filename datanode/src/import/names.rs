//! [`Names`]: a directory's names, gathered in any order and handed out in order.

use std::collections::HashMap;

use cairn_types::{Name, Timestamp};

use super::{ImportError, LeftOut, NAMES_MAX, hides};
use crate::understore::ListedObject;

/// What is added to the name of an object whose name a directory has.
pub const SHADOWED_SUFFIX: &str = ".cairn-object";
/// Bytes of names and ETags in one directory, at most.
const TEXT_BYTES_MAX: usize = 128 << 20;
/// Bytes of an [`Entry`].
const ENTRY_BYTES: usize = 32;

/// What imports may hold in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Names in one directory.
    pub(super) names_max: usize,
    /// Bytes of names and ETags in one directory.
    pub(super) text_bytes_max: usize,
    /// Bytes of a directory that may be held beside the largest one.
    pub(super) small_bytes: usize,
}

impl Bounds {
    /// The shares of `bytes`: of 200 parts 128 for texts, 32 for entries, 40 for another directory.
    pub(super) fn of(bytes: usize) -> Self {
        let part = bytes / 200;
        Self {
            names_max: (part * 32 / ENTRY_BYTES).min(NAMES_MAX),
            text_bytes_max: (part * 128).min(TEXT_BYTES_MAX),
            small_bytes: part * 40,
        }
    }
}

/// One name; its texts lie in [`Names::text`].
#[derive(Clone, Copy)]
struct Entry {
    at: u32,
    name_bytes: u16,
    etag_bytes: u16,
    directory: bool,
    // The name has the suffix that the key lacks.
    shadowed: bool,
    size: u64,
    mtime: Timestamp,
}

/// A directory's names. 32 bytes each, and their texts.
pub(super) struct Names {
    bounds: Bounds,
    // The directory is a mount's root.
    root: bool,
    entries: Vec<Entry>,
    text: Vec<u8>,
    /// Keys that are no names, by why.
    pub(super) skipped: HashMap<LeftOut, u64>,
    /// Objects whose name a directory has.
    pub(super) shadowed: u64,
}

/// A name as it is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named<'a> {
    pub(super) name: &'a [u8],
    pub(super) directory: bool,
    /// What follows the directory's prefix in the key, without a directory's `/`.
    pub(super) key: &'a [u8],
    pub(super) etag: &'a [u8],
    pub(super) size: u64,
    pub(super) mtime: Timestamp,
}

impl Names {
    /// No names yet, of a directory that may be a mount's root.
    pub(super) fn within(bounds: Bounds, root: bool) -> Self {
        Self { bounds, root, entries: Vec::new(), text: Vec::new(), skipped: HashMap::new(), shadowed: 0 }
    }

    /// How many keys were left out.
    pub(super) fn left_out(&self) -> u64 {
        self.skipped.values().sum()
    }

    fn skip(&mut self, why: LeftOut) {
        *self.skipped.entry(why).or_default() += 1;
    }

    /// True when they take more than may be held beside the largest directory.
    pub(super) fn outgrown(&self) -> bool {
        self.entries.len() * ENTRY_BYTES + self.text.len() > self.bounds.small_bytes
    }

    /// Takes an object; `rest` is its key behind the directory's prefix.
    pub(super) fn add_object(&mut self, rest: &str, object: &ListedObject) -> Result<(), ImportError> {
        if rest.is_empty() {
            // The directory's own marker.
            if object.size > 0 {
                self.skip(LeftOut::MarkerWithBytes);
            }
            return Ok(());
        }
        self.add(rest, false, &object.etag, object.size, object.mtime)
    }

    /// Takes a common prefix; `rest` is what follows the directory's prefix, with the final `/`.
    pub(super) fn add_directory(&mut self, rest: &str) -> Result<(), ImportError> {
        let name = rest.strip_suffix('/').unwrap_or(rest);
        if self.root && hides(name) {
            return Ok(());
        }
        self.add(name, true, "", 0, Timestamp(0))
    }

    fn add(
        &mut self,
        name: &str,
        directory: bool,
        etag: &str,
        size: u64,
        mtime: Timestamp,
    ) -> Result<(), ImportError> {
        if let Some(why) = LeftOut::of(name) {
            self.skip(why);
            return Ok(());
        }
        let (Ok(name_bytes), Ok(etag_bytes)) = (u16::try_from(name.len()), u16::try_from(etag.len())) else {
            self.skip(LeftOut::TooLong);
            return Ok(());
        };
        let entry = Entry { at: 0, name_bytes, etag_bytes, directory, shadowed: false, size, mtime };
        self.push(entry, name.as_bytes(), etag.as_bytes())
    }

    fn push(&mut self, entry: Entry, name: &[u8], etag: &[u8]) -> Result<(), ImportError> {
        let Bounds { names_max, text_bytes_max, .. } = self.bounds;
        let full = ImportError::TooManyNames { names_max, text_mib: text_bytes_max >> 20 };
        if self.entries.len() >= names_max || self.text.len() + name.len() + etag.len() > text_bytes_max {
            return Err(full);
        }
        let at = u32::try_from(self.text.len()).map_err(|_| full)?;
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(etag);
        self.entries.push(Entry { at, ..entry });
        Ok(())
    }

    fn name_of<'a>(text: &'a [u8], entry: &Entry) -> &'a [u8] {
        &text[entry.at as usize..][..usize::from(entry.name_bytes)]
    }

    /// Puts the names in order and settles which of two with one name keeps it.
    pub(super) fn settle(&mut self) -> Result<(), ImportError> {
        self.sort();
        let mut homeless: Vec<Entry> = Vec::new();
        let (text, entries) = (&self.text, &mut self.entries);
        entries.dedup_by(|later, kept| {
            let same = Self::name_of(text, later) == Self::name_of(text, kept);
            // Directories sort first, so what goes is an object, or what a page repeated.
            if same && kept.directory && !later.directory {
                let repeated = homeless.last().map(|last| Self::name_of(text, last));
                if repeated != Some(Self::name_of(text, later)) {
                    homeless.push(*later);
                }
            }
            same
        });
        for entry in homeless {
            self.rehouse(entry)?;
        }
        self.sort();
        Ok(())
    }

    fn sort(&mut self) {
        let text = &self.text;
        self.entries.sort_unstable_by(|a, b| {
            let by_name = Self::name_of(text, a).cmp(Self::name_of(text, b));
            by_name.then(b.directory.cmp(&a.directory))
        });
    }

    /// Gives an object whose name a directory has its longer name, if that is free.
    fn rehouse(&mut self, entry: Entry) -> Result<(), ImportError> {
        let text = &self.text;
        let name = [Self::name_of(text, &entry), SHADOWED_SUFFIX.as_bytes()].concat();
        // Only the settled names are searched; what is rehoused cannot fall together, since the
        // names it comes from differ.
        let settled = self.entries.partition_point(|other| !other.shadowed);
        let taken = self.entries[..settled].binary_search_by(|other| Self::name_of(text, other).cmp(&name));
        let (Ok(name_bytes), Err(_), true) =
            (u16::try_from(name.len()), taken, Name::new(name.as_slice()).is_ok())
        else {
            self.skip(LeftOut::NamesTaken);
            return Ok(());
        };
        let etag_at = entry.at as usize + usize::from(entry.name_bytes);
        let etag = self.text[etag_at..][..usize::from(entry.etag_bytes)].to_vec();
        self.shadowed += 1;
        self.push(Entry { name_bytes, shadowed: true, ..entry }, &name, &etag)
    }

    /// The names after `start_after` (all when empty), in order, once settled.
    pub(super) fn after<'a>(&'a self, start_after: &'a [u8]) -> impl ExactSizeIterator<Item = Named<'a>> {
        let text = &self.text;
        let first = self.entries.partition_point(|entry| Self::name_of(text, entry) <= start_after);
        self.entries[first..].iter().map(move |entry| {
            let name = Self::name_of(text, entry);
            let key = if entry.shadowed { &name[..name.len() - SHADOWED_SUFFIX.len()] } else { name };
            let etag = &text[entry.at as usize + name.len()..][..usize::from(entry.etag_bytes)];
            let Entry { directory, size, mtime, .. } = *entry;
            Named { name, directory, key, etag, size, mtime }
        })
    }
}
