//! What a store does, found out by trying.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt;

use super::{Capabilities, ListRequest, NewObject, PutOutcome, UnderStore, UnderStoreError};

/// A small object.
pub(super) fn small(bytes: &'static [u8]) -> NewObject {
    NewObject {
        length: bytes.len() as u64,
        crc32c: crc32c::crc32c(bytes),
        metadata: BTreeMap::new(),
        body: futures::stream::iter([Ok(Bytes::from_static(bytes))]).boxed(),
    }
}

/// Tries everything but multipart uploads with objects below `scratch`, and removes them.
pub(super) async fn probe<S: UnderStore>(store: &S, scratch: &str) -> Result<Capabilities, UnderStoreError> {
    // Byte order puts `-` before `/`; the order of a tree puts `a/…` before `a-b`.
    let keys = [format!("{scratch}a-b"), format!("{scratch}a/b")];
    let outcome = attempt(store, scratch, &keys).await;
    for key in &keys {
        store.delete(key, None).await?;
    }
    outcome
}

async fn attempt<S: UnderStore>(
    store: &S,
    scratch: &str,
    keys: &[String; 2],
) -> Result<Capabilities, UnderStoreError> {
    let mut found = Capabilities::default();
    store.put_new(&keys[0], small(b"first")).await?;
    store.put_new(&keys[1], small(b"other")).await?;
    found.put_if_absent = store.put_new(&keys[0], small(b"again")).await? == PutOutcome::Exists;
    found.crc32c = store.head(&keys[1]).await?.crc32c == Some(crc32c::crc32c(b"other"));
    let stranger = Some("00000000000000000000000000000000");
    let refused = |error: UnderStoreError| matches!(error, UnderStoreError::PreconditionFailed { .. });
    found.get_if_match = store.get_range(&keys[0], 0..1, stranger).await.is_err_and(refused);
    found.delete_if_match = store.delete(&keys[1], stranger).await.is_err_and(refused);
    let request = ListRequest { prefix: scratch.to_owned(), ..ListRequest::default() };
    let listed: Vec<String> = store.list(&request).await?.objects.into_iter().map(|o| o.key).collect();
    found.byte_order = listed == *keys;
    Ok(found)
}
