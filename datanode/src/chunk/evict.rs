//! What may go goes, when segments run out: as the policy says, not as they lie.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::batch::stored_bytes;
use super::engine::Engine;
use super::policy::Item;
use super::space::usable_bytes;
use super::table::RecordRef;
use crate::segments::Privilege;

/// Of the space that is to be used at most, the part that live records may take: the rest is what
/// emptying wins from.
const LIVE_PART: (u64, u64) = (7, 8);

impl Engine {
    /// Lists what may go, as recovery found it: oldest first.
    pub(crate) fn enlist(&mut self) {
        let mut found: Vec<((u64, u32), Item, u64)> = Vec::new();
        {
            let cache = self.table.cache.read().unwrap_or_else(PoisonError::into_inner);
            for (key, entry) in cache.iter() {
                let at = (self.log.segment_of(entry.location.slot), entry.location.offset);
                found.push((at, Item::Block(*key), stored_bytes(entry.length)));
            }
        }
        for (chunk, replica) in self.replicas.iter().filter(|(_, r)| r.state.place.is_some()) {
            let (at, segment, _) = replica.state_at;
            let bytes = replica.cell.read().refs.iter().map(RecordRef::stored_bytes).sum();
            found.push(((segment, at.offset), Item::Chunk(*chunk), bytes));
        }
        found.sort_unstable_by_key(|(at, ..)| *at);
        found.into_iter().for_each(|(_, item, bytes)| self.policy.insert(item, bytes));
    }

    /// Bytes that could still be taken by what may not go, at most: of what is live nothing is free, and near
    /// the end no more than the free segments have, and those that are worth emptying.
    pub(crate) fn room_bytes(&self) -> u64 {
        let usable = self.usable_bytes();
        let room = usable.saturating_sub(self.pinned_live_bytes());
        let capacity = self.log.segment_capacity_bytes();
        let free = u64::from(self.log.free_segments().saturating_sub(Privilege::Append.leaves())) * capacity;
        if free >= usable / 4 {
            return room;
        }
        // Records and their ends leave gaps, so that full segments hold less than they are large.
        let worth = |live: u64| if live <= capacity / 4 * 3 { capacity - live } else { 0 };
        let emptied: u64 = self.log.full_live_bytes().map(worth).sum();
        room.min(free + emptied + self.policy.bytes())
    }

    pub(crate) fn usable_bytes(&self) -> u64 {
        usable_bytes(self.log.options.segments_max, self.log.segment_capacity_bytes())
    }

    /// Bytes of live records that may not go.
    pub(crate) fn pinned_live_bytes(&self) -> u64 {
        self.log.live_bytes().saturating_sub(self.policy.bytes())
    }

    /// Lets things go until the rest leaves as many segments free as the low watermark says.
    pub(crate) fn shrink(&mut self) {
        let used = self.log.options.segments_max.saturating_sub(self.waters.stop);
        let target = u64::from(used) * self.log.segment_capacity_bytes() / LIVE_PART.1 * LIVE_PART.0;
        let surplus = self.log.live_bytes().saturating_sub(target);
        if surplus > 0 {
            self.let_go(surplus);
        }
    }

    /// Lets things go of about `wanted` bytes; answers how many they were.
    pub(crate) fn let_go(&mut self, wanted: u64) -> u64 {
        let mut freed = 0;
        while freed < wanted {
            let before = self.log.live_bytes();
            let (table, replicas) = (&self.table, &self.replicas);
            let hits = |item: &Item| match item {
                Item::Block(key) => table.with_block(key, |entry| entry.heat.hits()),
                Item::Chunk(chunk) => replicas.get(chunk).map_or(0, |r| r.cell.heat.hits()),
            };
            let cool = |item: &Item, hits| match item {
                Item::Block(key) => {
                    table.with_block(key, |entry| {
                        entry.heat.cool(hits);
                        hits
                    });
                }
                Item::Chunk(chunk) => {
                    if let Some(replica) = replicas.get(chunk) {
                        replica.cell.heat.cool(hits);
                    }
                }
            };
            let Some(item) = self.policy.evict_one(hits, cool) else { break };
            match item {
                Item::Block(key) => {
                    let mut cache = self.table.cache.write().unwrap_or_else(PoisonError::into_inner);
                    if let Some(lost) = cache.remove(&key) {
                        self.log.drop_live(lost.location, stored_bytes(lost.length));
                    }
                }
                Item::Chunk(chunk) => {
                    if let Err(error) = self.drop_replica(chunk) {
                        tracing::warn!(%chunk, %error, "a persisted replica could not go");
                        break;
                    }
                }
            }
            freed += before.saturating_sub(self.log.live_bytes());
        }
        self.table.counters.evicted_bytes.fetch_add(freed, Ordering::Relaxed);
        metrics::counter!("cairn_data_evicted_bytes_total").increment(freed);
        freed
    }
}
