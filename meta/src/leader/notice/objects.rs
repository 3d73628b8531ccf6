//! The work on a mounted bucket's objects, as data nodes are told it.

use cairn_proto::v1::{self, object_piece, work};
use cairn_types::{ClusterId, MountId, NodeId};

use super::chunk_range;
use crate::keys::RowFault;
use crate::keys::intents::{IntentRecord, Work};
use crate::leader::wire;
use crate::namespace::mounting::{self, PieceSource};
use crate::namespace::read;
use crate::store::Rows;

/// A mount's bucket and how it is spoken to; `None` when the mount is gone.
///
/// # Errors
/// [`RowFault`] when the store failed or a row is damaged.
pub fn bucket(rows: &dyn Rows, mount: MountId) -> Result<Option<v1::MountedBucket>, RowFault> {
    let Some(record) = read::mount(rows, mount)? else { return Ok(None) };
    let mode = mounting::mode(rows, mount)?;
    let source = record.source;
    Ok(Some(v1::MountedBucket {
        mount: mount.0,
        bucket: source.bucket,
        endpoint: source.endpoint,
        region: source.region,
        force_path_style: source.force_path_style,
        access: Some(wire::access(&mode.access)),
        sole_writer: mode.rules.sole_writer,
        abilities: mode.abilities.as_ref().map(wire::abilities),
        prefix: source.prefix,
    }))
}

/// The work of a put: the object as it is to be, and where its bytes are now. `None` for another work, and when
/// the intent has ended, or its mount is gone.
///
/// # Errors
/// [`RowFault`] when the store failed or a row is damaged.
pub fn put(
    rows: &dyn Rows,
    cluster: ClusterId,
    record: &IntentRecord,
    address: &dyn Fn(NodeId) -> Option<String>,
) -> Result<Option<v1::Work>, RowFault> {
    let Work::PutObject { mount, .. } = &record.work else { return Ok(None) };
    let Some(bucket) = bucket(rows, *mount)? else { return Ok(None) };
    let Some(picture) = mounting::picture(rows, record)? else { return Ok(None) };
    let mut pieces = Vec::with_capacity(picture.pieces.len());
    for piece in picture.pieces {
        let source = match piece.source {
            PieceSource::Hole => object_piece::Source::Hole(true),
            PieceSource::Object { key, etag, size } => {
                object_piece::Source::Object(v1::SourceObject { key: key.into(), etag, size })
            }
            PieceSource::Chunk(chunk) => match chunk_range(rows, cluster, chunk, address)? {
                Some(range) => object_piece::Source::Chunk(range),
                None => return Ok(None),
            },
        };
        pieces.push(v1::ObjectPiece { offset: piece.offset, length: piece.length, source: Some(source) });
    }
    let (like_key, like_etag) = picture.like.unwrap_or_default();
    Ok(Some(super::work(work::Work::PutObject(v1::PutObject {
        intent: record.intent.0,
        bucket: Some(bucket),
        key: picture.key.into(),
        replaces: picture.replaces,
        length: picture.length,
        pieces,
        metadata: picture.metadata.into_iter().collect(),
        like_key: like_key.into(),
        like_etag,
    }))))
}
