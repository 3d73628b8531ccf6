//! [`DumpReader`]: the facts of a dump, one after the other.

use std::io::{self, BufRead, Read};

use serde::Deserialize;

use super::line::{self, Edge, End, FORMAT, Header, VERSION};
use crate::keys::loads::LoadId;
use crate::namespace::facts::Fact;

/// Bytes in a line, at most: several times those of the longest that is written.
pub const LINE_BYTES_MAX: usize = 4 << 20;

/// Why a file is no whole dump that this build reads. Lines are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// It could not be read.
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    /// The first line is no header.
    #[error("line 1: this is no dump of a namespace")]
    NoDump,
    /// Another version of the format.
    #[error("line 1: it has version {found} of the format, and this build reads {VERSION}")]
    Version {
        /// The version.
        found: u64,
    },
    /// A line is no fact.
    #[error("line {line}: this is no fact of a namespace")]
    Line {
        /// Which.
        line: u64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A line has too many bytes.
    #[error("line {line}: it has more than {LINE_BYTES_MAX} bytes")]
    Long {
        /// Which.
        line: u64,
    },
    /// The last line is missing.
    #[error("line {line}: the dump is cut: its last line is missing")]
    Cut {
        /// Where it ends.
        line: u64,
    },
    /// The last line does not fit those before it.
    #[error("line {line}: the lines before are not those that were dumped: {found} facts, checksum {crc32c}")]
    Changed {
        /// The last line.
        line: u64,
        /// Facts before it.
        found: u64,
        /// Their checksum.
        crc32c: u32,
    },
    /// Something comes after the last line.
    #[error("line {line}: there is more after the dump's last line")]
    More {
        /// Where.
        line: u64,
    },
}

/// A fact and the line that tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which line, from 1.
    pub number: u64,
    /// Its bytes, without its end.
    pub bytes: Vec<u8>,
    /// What it tells.
    pub fact: Fact,
}

/// Reads a dump. Holds one line at a time.
#[derive(Debug)]
pub struct DumpReader<R> {
    from: R,
    header: Header,
    number: u64,
    counted: End,
    done: bool,
}

/// What every version of the format has in its header.
#[derive(Deserialize)]
struct Any {
    fact: String,
    format: String,
    version: u64,
}

impl<R: BufRead> DumpReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`DumpError`]: `Read`, `NoDump`, `Version`.
    pub fn open(mut from: R) -> Result<Self, DumpError> {
        let bytes = match read_line(&mut from, 1) {
            Ok(Some(bytes)) => bytes,
            Err(DumpError::Read(error)) => return Err(error.into()),
            Ok(None) | Err(_) => return Err(DumpError::NoDump),
        };
        let any: Any = serde_json::from_slice(&bytes).map_err(|_| DumpError::NoDump)?;
        if any.fact != "header" || any.format != FORMAT {
            return Err(DumpError::NoDump);
        }
        if any.version != u64::from(VERSION) {
            return Err(DumpError::Version { found: any.version });
        }
        let edge = serde_json::from_slice(&bytes).map_err(|source| DumpError::Line { line: 1, source })?;
        let Edge::Header(header) = edge else { return Err(DumpError::NoDump) };
        let mut counted = End::default();
        counted.count(&bytes, None);
        Ok(Self { from, header, number: 1, counted, done: false })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What was read so far.
    #[must_use]
    pub fn counted(&self) -> &End {
        &self.counted
    }

    /// Which dump it is, once all of it is read.
    #[must_use]
    pub fn id(&self) -> LoadId {
        let Header { cluster, log_index, .. } = self.header;
        LoadId { cluster, log_index, facts: self.counted.facts, crc32c: self.counted.crc32c }
    }

    /// The next fact; `None` at the end, of which nothing is missing and nothing was changed.
    ///
    /// # Errors
    /// [`DumpError`] names the line.
    pub fn next_line(&mut self) -> Result<Option<Line>, DumpError> {
        if self.done {
            return Ok(None);
        }
        let number = self.number + 1;
        let Some(mut bytes) = read_line(&mut self.from, number)? else {
            return Err(DumpError::Cut { line: number });
        };
        self.number = number;
        if bytes.last() != Some(&b'\n') {
            return Err(DumpError::Cut { line: number });
        }
        let fact = match line::fact(&bytes) {
            Ok(fact) => fact,
            Err(source) => match serde_json::from_slice(&bytes) {
                Ok(Edge::End(end)) => return self.finish(&end).map(|()| None),
                _ => return Err(DumpError::Line { line: number, source }),
            },
        };
        self.counted.count(&bytes, Some(&fact));
        bytes.pop();
        Ok(Some(Line { number, bytes, fact }))
    }

    fn finish(&mut self, end: &End) -> Result<(), DumpError> {
        if *end != self.counted {
            let End { facts: found, crc32c, .. } = self.counted;
            return Err(DumpError::Changed { line: self.number, found, crc32c });
        }
        if !self.from.fill_buf()?.is_empty() {
            return Err(DumpError::More { line: self.number + 1 });
        }
        self.done = true;
        Ok(())
    }
}

/// A line with its end, when it has one; `None` at the end of the file.
fn read_line(from: &mut impl BufRead, number: u64) -> Result<Option<Vec<u8>>, DumpError> {
    let mut bytes = Vec::new();
    let most = LINE_BYTES_MAX as u64 + 1;
    from.by_ref().take(most).read_until(b'\n', &mut bytes)?;
    match bytes.len() {
        0 => Ok(None),
        length if length > LINE_BYTES_MAX => Err(DumpError::Long { line: number }),
        _ => Ok(Some(bytes)),
    }
}
