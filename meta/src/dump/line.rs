//! [`Header`], [`End`], [`DumpLines`]: how the lines of a dump are written.

use std::collections::BTreeMap;

use cairn_types::{ClusterId, LogIndex, Timestamp};
use serde::{Deserialize, Serialize};

use crate::keys::RowFault;
use crate::namespace::facts::{Fact, Next, next_ids, wide};
use crate::namespace::read;
use crate::store::Rows;

/// What the header names the format.
pub const FORMAT: &str = "cairnfs-namespace";
/// The version of the format that this build writes and reads.
pub const VERSION: u32 = 1;

/// The first line of a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// The cluster.
    #[serde(with = "wide")]
    pub cluster: ClusterId,
    /// The last entry of its log that the dumped state had applied.
    pub log_index: LogIndex,
    /// That state's time.
    pub time_ns: Timestamp,
    /// The ids that it gave next.
    pub next: Next,
    /// Inodes with a name, as the state counts them.
    pub inodes: u64,
    /// Chunks.
    pub chunks: u64,
    /// Packs.
    pub packs: u64,
}

/// The last line of a dump: without it the dump is cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Facts before it.
    pub facts: u64,
    /// How many of each kind.
    pub kinds: BTreeMap<String, u64>,
    /// CRC32C of all lines before it, their ends included.
    pub crc32c: u32,
}

/// The lines that are no facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub(super) enum Edge {
    /// The first.
    Header(Header),
    /// The last.
    End(End),
}

impl Header {
    /// The header of a state that has applied all up to `log_index`.
    ///
    /// # Errors
    /// A fault of the store.
    pub fn of(rows: &dyn Rows, log_index: LogIndex) -> Result<Self, RowFault> {
        let cluster = read::cluster(rows)?;
        let counts = cluster.counts;
        Ok(Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            cluster: cluster.cluster,
            log_index,
            time_ns: cluster.time,
            next: next_ids(rows)?,
            inodes: counts.inodes,
            chunks: counts.chunks_open + counts.chunks_sealing + counts.chunks_sealed,
            packs: counts.packs,
        })
    }
}

impl End {
    /// Counts a line of the dump, and the fact that it tells.
    pub(super) fn count(&mut self, line: &[u8], fact: Option<&Fact>) {
        self.crc32c = crc32c::crc32c_append(self.crc32c, line);
        if let Some(fact) = fact {
            self.facts += 1;
            match self.kinds.get_mut(fact.kind()) {
                Some(count) => *count += 1,
                None => drop(self.kinds.insert(fact.kind().to_owned(), 1)),
            }
        }
    }
}

/// Writes the lines of a dump, and counts them.
#[derive(Debug, Default)]
pub struct DumpLines {
    end: End,
}

impl DumpLines {
    /// No line yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the first line to `out`.
    pub fn header(&mut self, header: &Header, out: &mut Vec<u8>) {
        self.add(&Edge::Header(header.clone()), None, out);
    }

    /// Adds a fact.
    pub fn fact(&mut self, fact: &Fact, out: &mut Vec<u8>) {
        self.add(fact, Some(fact), out);
    }

    /// Adds the last line.
    pub fn end(mut self, out: &mut Vec<u8>) {
        let end = Edge::End(self.end.clone());
        self.add(&end, None, out);
    }

    fn add(&mut self, line: &impl Serialize, fact: Option<&Fact>, out: &mut Vec<u8>) {
        let begin = out.len();
        // Writing into a Vec cannot fail, and neither do these types.
        if let Err(error) = serde_json::to_writer(&mut *out, line) {
            panic!("a line did not encode: {error}");
        }
        out.push(b'\n');
        self.end.count(out.get(begin..).unwrap_or_default(), fact);
    }
}

/// The fact that a line tells.
///
/// # Errors
/// Where the line is none.
pub fn fact(line: &[u8]) -> Result<Fact, serde_json::Error> {
    serde_json::from_slice(line)
}
