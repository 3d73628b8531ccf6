//! What the SDK takes out of answers: what is missing there, or out of its range, is named.

use cairn_proto::v1;
use cairn_types::{Extent, FsError, Inode};

use crate::error::{Cause, Error, Result};

/// The inode of an answer.
pub(crate) fn inode_of(action: &'static str, subject: &str, inode: Option<&v1::Inode>) -> Result<Inode> {
    let inode = inode.ok_or_else(|| Error::new(action, subject, Cause::MalformedAnswer("inode")))?;
    Inode::try_from(inode).map_err(|e| Error::new(action, subject, e))
}

/// Refuses what is no regular file.
pub(crate) fn regular(action: &'static str, subject: &str, inode: &Inode) -> Result<()> {
    if inode.is_file() {
        return Ok(());
    }
    let refused = if inode.is_dir() { FsError::IsDirectory } else { FsError::NotFile };
    Err(Error::new(action, subject, refused))
}

/// The extents of an answer.
pub(crate) fn extents_of(action: &'static str, subject: &str, extents: &[v1::Extent]) -> Result<Vec<Extent>> {
    let extents = extents.iter().map(Extent::try_from).collect::<std::result::Result<Vec<_>, _>>();
    extents.map_err(|e| Error::new(action, subject, e))
}

/// The chunk of an answer.
pub(crate) fn chunk_of(action: &'static str, chunk: Option<v1::Chunk>) -> Result<v1::Chunk> {
    chunk.ok_or_else(|| Error::new(action, "", Cause::MalformedAnswer("chunk")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn told<T>(taken: Result<T>) -> Option<(String, ErrorKind)> {
        taken.err().map(|error| (error.to_string(), error.kind()))
    }

    fn malformed<T>(taken: Result<T>, message: &str) {
        assert_eq!(told(taken), Some((message.to_owned(), ErrorKind::Corrupt)));
    }

    #[test]
    fn an_answer_that_lacks_a_field_is_malformed_and_names_it() {
        let of_no_kind = v1::Inode { ino: 7, ..Default::default() };
        let inode = v1::Inode { kind: v1::FileKind::File.into(), ..of_no_kind.clone() };
        assert_eq!(told(inode_of("stat", "/a", Some(&inode))), None);
        malformed(inode_of("stat", "/a", None), "stat /a: the answer is malformed: field inode");
        let message = "stat /a: the answer is malformed: field inode.kind";
        malformed(inode_of("stat", "/a", Some(&of_no_kind)), message);
        let from_nowhere = v1::Extent { file_offset: 0, length: 5, source: None };
        let source = Some(v1::extent::Source::Chunk(v1::ChunkSource { chunk: 1, offset: 0 }));
        let extent = v1::Extent { source, ..from_nowhere.clone() };
        assert_eq!(told(extents_of("open", "/a", std::slice::from_ref(&extent))), None);
        let message = "open /a: the answer is malformed: field extent.source";
        malformed(extents_of("open", "/a", &[extent, from_nowhere]), message);
        assert_eq!(told(chunk_of("open a chunk", Some(v1::Chunk::default()))), None);
        malformed(chunk_of("open a chunk", None), "open a chunk: the answer is malformed: field chunk");
    }
}
