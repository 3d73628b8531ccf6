//! A snapshot on the wire: the manifest with every file's length and CRC32C, then the files'
//! bytes in order. What is received is verified and fsynced before anyone may use it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_proto::v1::{SnapshotData as Piece, SnapshotFile, SnapshotManifest, SnapshotPiece, snapshot_piece};
use futures::{Stream, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tonic::Status;

use super::durable;
use super::snapshot::{Directory, SnapshotData};

/// Bytes in one piece.
const PIECE_BYTES: usize = 1 << 20;
/// Files in a snapshot, at most.
const FILES_MAX: usize = 65_536;
/// How long a receiver waits for the next piece.
const PIECE_WAIT: Duration = Duration::from_secs(30);

/// Why a snapshot was not received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The sender broke the format: the stream is abandoned.
    #[error("the snapshot's stream is malformed: {0}")]
    Malformed(&'static str),
    /// A file's bytes fail the manifest's checksum.
    #[error("the bytes of snapshot file {file} fail their checksum")]
    Checksum {
        /// The file's place in the manifest.
        file: usize,
    },
    /// The stream broke, or the sender fell silent.
    #[error("the snapshot's stream broke off")]
    Broken,
    /// The disk refused.
    #[error("a received snapshot could not be written")]
    Disk(#[from] io::Error),
}

/// RocksDB's text logs and lock are no part of the state.
fn belongs(name: &str) -> bool {
    !(name == "LOCK" || name.starts_with("LOG"))
}

/// Lists the files of a snapshot with their lengths and checksums. Reads all of it: blocking.
///
/// # Errors
/// The kernel's.
pub fn list(dir: &Path) -> io::Result<Vec<SnapshotFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !belongs(&name) || !entry.file_type()?.is_file() {
            continue;
        }
        let (mut bytes, mut crc32c) = (0u64, 0u32);
        let mut file = fs::File::open(entry.path())?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let n = io::Read::read(&mut file, &mut piece)?;
            if n == 0 {
                break;
            }
            bytes += n as u64;
            crc32c = crc32c::crc32c_append(crc32c, &piece[..n]);
        }
        files.push(SnapshotFile { name, bytes, crc32c });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// Sends the manifest and the files of `snapshot` into `pieces`; ends early when the receiver is
/// gone.
///
/// # Errors
/// The kernel's, or a file that is shorter than the manifest says.
pub async fn send(
    snapshot: SnapshotData,
    manifest: SnapshotManifest,
    pieces: mpsc::Sender<SnapshotPiece>,
) -> io::Result<()> {
    let files = manifest.files.clone();
    let manifest = SnapshotPiece { piece: Some(snapshot_piece::Piece::Manifest(manifest)) };
    if pieces.send(manifest).await.is_err() {
        return Ok(());
    }
    for (number, file) in files.iter().enumerate() {
        let mut from = tokio::fs::File::open(snapshot.path().join(&file.name)).await?;
        let mut offset = 0;
        while offset < file.bytes {
            let want = (file.bytes - offset).min(PIECE_BYTES as u64);
            let mut data = vec![0; want as usize];
            from.read_exact(&mut data).await?;
            let data = Piece { file: number as u32, offset, data: Bytes::from(data) };
            offset += want;
            let piece = SnapshotPiece { piece: Some(snapshot_piece::Piece::Data(data)) };
            if pieces.send(piece).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// True for a plain file name.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && name != "." && name != ".." && !name.contains(['/', '\0'])
}

/// Receives the files of `manifest` from `next` into the new directory `path`. When this returns,
/// every byte is verified and durable. On an error the directory is removed.
///
/// # Errors
/// [`ReceiveError`].
pub async fn receive(
    path: PathBuf,
    manifest: &SnapshotManifest,
    pieces: &mut (impl Stream<Item = Result<SnapshotPiece, Status>> + Unpin),
) -> Result<SnapshotData, ReceiveError> {
    if manifest.files.len() > FILES_MAX || !manifest.files.iter().all(|f| is_plain(&f.name)) {
        return Err(ReceiveError::Malformed("files"));
    }
    durable::remove_dir(&path)?;
    durable::create_dir(&path)?;
    let directory = Directory::doomed(path);
    for (number, file) in manifest.files.iter().enumerate() {
        let mut to = tokio::fs::File::create_new(directory.path().join(&file.name)).await?;
        let (mut offset, mut crc32c) = (0u64, 0u32);
        while offset < file.bytes {
            let piece = next_piece(pieces).await?;
            if piece.file as usize != number || piece.offset != offset || piece.data.is_empty() {
                return Err(ReceiveError::Malformed("data"));
            }
            offset += piece.data.len() as u64;
            crc32c = crc32c::crc32c_append(crc32c, &piece.data);
            to.write_all(&piece.data).await?;
        }
        if offset != file.bytes || crc32c != file.crc32c {
            return Err(ReceiveError::Checksum { file: number });
        }
        to.flush().await?;
        to.sync_all().await?;
    }
    durable::sync_dir(directory.path())?;
    Ok(Arc::new(directory))
}

async fn next_piece(
    pieces: &mut (impl Stream<Item = Result<SnapshotPiece, Status>> + Unpin),
) -> Result<Piece, ReceiveError> {
    let next = tokio::time::timeout(PIECE_WAIT, pieces.next()).await;
    match next {
        Ok(Some(Ok(SnapshotPiece { piece: Some(snapshot_piece::Piece::Data(data)) }))) => Ok(data),
        Ok(Some(Ok(_))) => Err(ReceiveError::Malformed("piece")),
        Ok(Some(Err(_)) | None) | Err(_) => Err(ReceiveError::Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A snapshot of two files, as its sender lists and sends it.
    async fn sent(dir: &Path) -> (SnapshotManifest, Vec<SnapshotPiece>) {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("a.sst"), vec![7; PIECE_BYTES + 10]).unwrap();
        fs::write(dir.join("b.sst"), [8; 100]).unwrap();
        fs::write(dir.join("LOG"), "text").unwrap();
        let files = list(dir).unwrap();
        let manifest = SnapshotManifest { from: 1, files, ..SnapshotManifest::default() };
        let (pieces, mut outgoing) = mpsc::channel(16);
        let snapshot = Arc::new(Directory::kept(dir.to_owned()));
        send(snapshot, manifest.clone(), pieces).await.unwrap();
        let mut all = Vec::new();
        while let Some(piece) = outgoing.recv().await {
            all.push(piece);
        }
        assert_eq!(all.len(), 4, "the manifest, and three pieces of two files");
        // The service takes the manifest off the stream.
        all.remove(0);
        (manifest, all)
    }

    async fn received(
        path: &Path,
        manifest: &SnapshotManifest,
        pieces: &[SnapshotPiece],
    ) -> Result<SnapshotData, ReceiveError> {
        let mut stream = futures::stream::iter(pieces.iter().cloned().map(Ok));
        receive(path.to_owned(), manifest, &mut stream).await
    }

    #[tokio::test]
    async fn what_is_sent_is_received() {
        let temp = tempfile::tempdir().unwrap();
        let (manifest, pieces) = sent(&temp.path().join("from")).await;
        let path = temp.path().join("to");
        let got = received(&path, &manifest, &pieces).await.unwrap();
        assert_eq!(list(got.path()).unwrap(), manifest.files);
        assert_eq!(fs::read(path.join("b.sst")).unwrap(), [8; 100]);
    }

    #[tokio::test]
    async fn a_corrupt_snapshot_is_refused_and_leaves_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let (manifest, mut pieces) = sent(&temp.path().join("from")).await;
        let path = temp.path().join("to");
        let Some(snapshot_piece::Piece::Data(last)) = &mut pieces[1].piece else { unreachable!() };
        let mut bytes = last.data.to_vec();
        bytes[3] ^= 1;
        last.data = bytes.into();
        let refused = received(&path, &manifest, &pieces).await;
        assert!(matches!(refused, Err(ReceiveError::Checksum { file: 0 })), "{refused:?}");
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_cut_or_reordered_snapshot_is_refused_and_leaves_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let (manifest, mut pieces) = sent(&temp.path().join("from")).await;
        let path = temp.path().join("to");
        for length in 0..pieces.len() {
            let refused = received(&path, &manifest, &pieces[..length]).await;
            assert!(matches!(refused, Err(ReceiveError::Broken)), "{length}: {refused:?}");
            assert!(!path.exists());
        }
        pieces.swap(0, 1);
        let refused = received(&path, &manifest, &pieces).await;
        assert!(matches!(refused, Err(ReceiveError::Malformed("data"))), "{refused:?}");
        assert!(!path.exists());
    }
}
