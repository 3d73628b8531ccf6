//! Counters and next ids.

use cairn_types::{FsError, LogIndex, MountId};

use crate::keys::counters::{self, ContentCounter, Granted, Repaired};
use crate::namespace::check::{At, Counter, at, recorded as counter_of};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::state::State;

/// Ids that one repair skips, at most: one further off is no id, but damage in a key.
const SKIPPED_MAX: u64 = 1 << 32;

/// Refuses what was mended since the check looked; notes that it is mended now.
pub fn once(state: &mut State<'_, '_>, what: &str, seen: LogIndex) -> Outcome<()> {
    let key = counters::repaired_key(what);
    if let At::Record(last) = at::<Repaired>(&*state.txn, &key)?
        && last.at > seen
    {
        return refuse(FsError::NotFound);
    }
    let now = Repaired { at: state.index };
    state.put(key, &now);
    Ok(())
}

/// A count changes by as much as it was found wrong: what is counted comes and goes in between, and
/// the count with it.
pub fn count(
    state: &mut State<'_, '_>,
    seen: LogIndex,
    counter: Counter,
    recorded: u64,
    counted: u64,
) -> Outcome<()> {
    once(state, counter.name(), seen)?;
    let mended = |now: u64| (now.saturating_add(counted)).saturating_sub(recorded);
    if counter == Counter::GrantedBytes {
        let At::Record(granted) = at::<Granted>(&*state.txn, counters::GRANTED_KEY)? else {
            return refuse(FsError::NotFound);
        };
        state.put(counters::GRANTED_KEY.to_vec(), &Granted { bytes: mended(granted.bytes) });
        return Ok(());
    }
    match counter_of(counter, &mut state.cluster) {
        Some(count) => *count = mended(*count),
        None => return refuse(FsError::InvalidRequest),
    }
    Ok(())
}

/// The next id goes beyond one that is in use.
pub fn next_id(state: &mut State<'_, '_>, counter: Counter, used: u64) -> Outcome<()> {
    let raise = |next: &mut u64| {
        if used < *next {
            return refuse(FsError::NotFound);
        }
        if used - *next > SKIPPED_MAX {
            return refuse(FsError::InvalidRequest);
        }
        *next = used.saturating_add(1);
        Ok(())
    };
    let next = &mut state.cluster.next;
    match counter {
        Counter::Inodes => raise(&mut next.inode.0),
        Counter::Chunks => raise(&mut next.chunk.0),
        Counter::Sessions => raise(&mut next.session.0),
        Counter::Nodes => raise(&mut next.node.0),
        Counter::Packs => raise(&mut next.pack.0),
        Counter::Intents => raise(&mut next.intent.0),
        Counter::Mounts => {
            let mut wide = u64::from(next.mount.0);
            raise(&mut wide)?;
            next.mount = MountId(u32::try_from(wide).unwrap_or(u32::MAX));
            Ok(())
        }
        Counter::Contents => {
            let made = match at::<ContentCounter>(&*state.txn, counters::CONTENTS_KEY)? {
                At::Record(counter) => counter.made,
                _ => 0,
            };
            let mut next = made.saturating_add(1);
            raise(&mut next)?;
            state.put(counters::CONTENTS_KEY.to_vec(), &ContentCounter { made: next.saturating_sub(1) });
            Ok(())
        }
        _ => refuse(FsError::InvalidRequest),
    }
}
