//! Purges removed trees, step by step and not faster than configured: a tree of many millions leaves
//! room for what clients ask for meanwhile. A new leader finds the rows and goes on.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use cairn_types::InodeId;

use super::look::Look;
use super::tenure::{JobFault, Tenure};
use super::turns::Turns;
use crate::keys::trees::{MayBeOpen, RemovedTree};
use crate::namespace::{Bounds, Command, holds, jobs};

/// Trees that take turns, at most.
const PER_TURN: usize = 64;
/// Entries of one tree, before others have their turn.
const STEPS_PER_TREE: usize = 64;
/// Unlinked files that are to be decided on, from which on no tree goes on that would make more of them.
const UNDECIDED_MAX: usize = 65_536;

/// Runs until the tenure ends.
pub async fn run(tenure: Arc<Tenure>) {
    let mut turns = Turns::new(&tenure, "trees", Duration::from_secs(1));
    let mut next = None;
    while turns.next().await {
        turns.ended(purge_all(&tenure, &mut next).await);
    }
}

/// The rest after each entry, so that so many names go in a second and no more.
fn pause(per_second: Option<NonZeroU32>) -> Duration {
    let names = u32::try_from(Bounds::default().rows_at_once).unwrap_or(u32::MAX);
    per_second.map_or(Duration::ZERO, |rate| Duration::from_secs(1) * names / rate.get())
}

/// Goes round the trees until none is left.
async fn purge_all(tenure: &Arc<Tenure>, next: &mut Option<InodeId>) -> Result<(), JobFault> {
    loop {
        let (view, after) = (tenure.local()?, *next);
        let read = move || {
            let page = |after, limit| jobs::trees(&*view.store, after, limit);
            let key = |tree: &RemovedTree| tree.inode.ino;
            Ok::<_, JobFault>((jobs::tree_counts(&*view.store)?, Look::take(after, PER_TURN, key, page)?))
        };
        let (counts, found) = tokio::task::spawn_blocking(read).await??;
        metrics::gauge!("cairn_meta_trees_pending_count").set(counts.pending as f64);
        metrics::counter!("cairn_meta_trees_purged_names_total").absolute(counts.purged);
        if found.rows.is_empty() {
            return Ok(());
        }
        *next = found.next;
        let mut went_on = false;
        for tree in found.rows {
            if tree.open == Some(MayBeOpen::Any) && is_crowded(tenure).await? {
                continue;
            }
            went_on = true;
            purge(tenure, tree.inode.ino).await?;
        }
        if !went_on {
            return Ok(());
        }
    }
}

/// True while the answers of some session are missing about so many files that no more are unlinked.
async fn is_crowded(tenure: &Tenure) -> Result<bool, JobFault> {
    let view = tenure.local()?;
    let count = move || holds::undecided(&*view.store, UNDECIDED_MAX);
    Ok(tokio::task::spawn_blocking(count).await?? >= UNDECIDED_MAX)
}

/// Takes so many steps of one tree, or fewer when it is gone.
async fn purge(tenure: &Tenure, top: InodeId) -> Result<(), JobFault> {
    for _ in 0..STEPS_PER_TREE {
        // A refusal: it is gone.
        if tenure.try_propose(Command::PurgeTree { top }).await?.is_none() {
            break;
        }
        tokio::time::sleep(pause(tenure.tree_purge_per_second)).await;
        if jobs::tree(&*tenure.local()?.store, top)?.is_none() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_after_an_entry_keeps_the_rate() {
        let pause = |rate| pause(NonZeroU32::new(rate));
        assert_eq!(pause(256), Duration::from_secs(1));
        assert_eq!(pause(25_600), Duration::from_millis(10));
        assert_eq!(pause(0), Duration::ZERO, "no bound");
    }
}
