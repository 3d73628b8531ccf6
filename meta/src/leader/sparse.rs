//! Packs of which so little is alive that writing it again is worth its while. Pure.

use std::collections::BTreeMap;

use cairn_types::{ChunkId, ClusterId, PackId};

use super::rows;
use crate::keys::RowFault;
use crate::keys::packs::{self, PackRecord};
use crate::namespace::{jobs, read};
use crate::store::Rows;

/// Rows read in one step of a scan.
const PAGE: usize = 1024;

/// A pack worth compacting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sparse {
    /// The pack.
    pub pack: PackId,
    /// Its length.
    pub bytes: u64,
    /// Its chunks that are alive.
    pub chunks: Vec<ChunkId>,
    /// Their lengths together: chunks move whole.
    pub live_length: u64,
}

/// True when less than that much of it is alive.
fn below(live: u64, bytes: u64, percent: u32) -> bool {
    u128::from(live) * 100 < u128::from(bytes) * u128::from(percent)
}

/// A pack of another cluster's, which a dump brought, is left alone: that one may live.
fn may_be(pack: &PackRecord, cluster: ClusterId, percent: u32) -> bool {
    pack.live_chunks > 0
        && pack.deletion.is_none()
        && below(pack.live_bytes, pack.bytes, percent)
        && pack.key == packs::object_key(cluster, pack.pack)
}

/// The packs of which less than `percent` is alive, counting whole chunks, by their ids; `most` are
/// looked for. It passes over all packs, and over the chunks until all of those packs' are found.
///
/// # Errors
/// A fault of the store.
pub fn find(
    rows: &dyn Rows,
    percent: u32,
    most: usize,
    skip: &dyn Fn(PackId) -> bool,
) -> Result<Vec<Sparse>, RowFault> {
    let mut found: BTreeMap<PackId, (Sparse, u32)> = BTreeMap::new();
    let cluster = read::cluster(rows)?.cluster;
    let mut after = PackId(0);
    loop {
        let page = jobs::packs_after(rows, after, PAGE)?;
        let Some(last) = page.last() else { break };
        after = last.pack;
        for pack in page.into_iter().filter(|p| may_be(p, cluster, percent) && !skip(p.pack)) {
            let sparse = Sparse { pack: pack.pack, bytes: pack.bytes, chunks: Vec::new(), live_length: 0 };
            found.insert(pack.pack, (sparse, pack.live_chunks));
        }
        if found.len() >= most {
            break;
        }
    }
    let mut missing: u64 = found.values().map(|(_, chunks)| u64::from(*chunks)).sum();
    let mut after = ChunkId(0);
    while missing > 0 {
        let page = rows::chunks_after(rows, after, PAGE)?;
        let Some(last) = page.last() else { break };
        after = last.chunk;
        for record in page.into_iter().filter(|r| !r.is_dead()) {
            let Some(place) = record.place else { continue };
            if let Some((sparse, _)) = found.get_mut(&place.pack) {
                sparse.chunks.push(record.chunk);
                sparse.live_length += place.length;
                missing = missing.saturating_sub(1);
            }
        }
    }
    let worth =
        |sparse: &Sparse| !sparse.chunks.is_empty() && below(sparse.live_length, sparse.bytes, percent);
    Ok(found.into_values().map(|(sparse, _)| sparse).filter(worth).take(most).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::chunks::{self, ChunkRecord, PackPlace};
    use crate::keys::{self, samples};
    use crate::store::{MemoryStore, Store, Txn};
    use cairn_types::{IntentId, Timestamp};

    /// A pack: its id, its length, and of each chunk its length and how much of it is alive.
    type Made<'a> = (u64, u64, &'a [(u64, u64)]);

    fn state(packs: &[Made<'_>]) -> MemoryStore {
        let store = MemoryStore::new();
        let mut txn = Txn::new(&store);
        let mut id = 0;
        for (pack, bytes, parts) in packs {
            let live = parts.iter().filter(|(_, live)| *live > 0);
            let record = PackRecord {
                pack: PackId(*pack),
                key: if *pack == 7 {
                    "k".into()
                } else {
                    packs::object_key(ClusterId::default(), PackId(*pack))
                },
                etag: "e".into(),
                bytes: *bytes,
                live_chunks: u32::try_from(live.clone().count()).expect("few"),
                live_bytes: live.map(|(_, live)| live).sum(),
                created: Timestamp(0),
                deletion: (*pack == 9).then_some(IntentId(1)),
            };
            keys::put(&mut txn, packs::key(record.pack), &record);
            for (length, live_bytes) in *parts {
                id += 1;
                let place = PackPlace { pack: PackId(*pack), offset: 0, length: *length, crc32c: 0 };
                let (chunk, place, live_bytes) = (ChunkId(id), Some(place), *live_bytes);
                let record = ChunkRecord { chunk, place, live_bytes, held: false, ..samples::chunk() };
                keys::put(&mut txn, chunks::key(chunk), &record);
            }
        }
        txn.keep();
        store.write(txn.into_batch()).expect("written");
        store
    }

    fn of(store: &MemoryStore, percent: u32, most: usize) -> Vec<(u64, Vec<u64>, u64)> {
        let found = find(store, percent, most, &|pack| pack == PackId(8)).expect("read");
        let ids = |s: &Sparse| s.chunks.iter().map(|c| c.0).collect();
        found.iter().map(|s| (s.pack.0, ids(s), s.live_length)).collect()
    }

    #[test]
    fn a_pack_counts_by_the_whole_chunks_that_live_in_it() {
        let store = state(&[
            (1, 100, &[(40, 40), (60, 0)]),
            // Half of it is dead, and that half is in the chunk that lives.
            (2, 100, &[(90, 10), (10, 0)]),
            (3, 100, &[(50, 0), (50, 0)]),
            (4, 100, &[(50, 50), (50, 0)]),
            (5, 100, &[(10, 1), (10, 1), (80, 0)]),
            (7, 100, &[(10, 1)]),
            (8, 100, &[(10, 1)]),
            (9, 100, &[(10, 1)]),
        ]);
        assert_eq!(of(&store, 50, 10), [(1, vec![1], 40), (5, vec![9, 10], 20)]);
        assert_eq!(of(&store, 30, 10), [(5, vec![9, 10], 20)]);
        assert_eq!(of(&store, 51, 10).len(), 3, "exactly half is below 51 %");
        assert_eq!(of(&store, 50, 1).len(), 1);
        assert_eq!(of(&store, 0, 10), []);
    }

    #[test]
    fn more_rows_than_a_page_are_all_looked_at() {
        let parts = [(10, 10), (90, 0)];
        let packs: Vec<Made<'_>> = (0..PAGE as u64 + 5).map(|n| (n + 10, 100, parts.as_slice())).collect();
        assert_eq!(of(&state(&packs), 50, usize::MAX).len(), PAGE + 5);
    }
}
