//! One pass over all segments, oldest first, a step at a time.

use std::time::Duration;

use crate::chunk::{Examined, SegmentWalk};
use crate::node::Node;

/// Bytes read at once.
const STEP_BYTES: u64 = 1 << 20;

/// Reads everything that counts once. Segments that are begun meanwhile are the next pass's.
pub(super) async fn run(node: &Node, bytes_per_second: u64) {
    let begun = node.context.clock.boottime();
    for (slot, sequence) in node.context.store.segments() {
        segment(node, slot, sequence, bytes_per_second).await;
    }
    let took = node.context.clock.boottime().saturating_sub(begun);
    node.scrub.note_pass(took);
    tracing::debug!(took_ms = took.as_millis() as u64, "a scrub has read everything once");
}

async fn segment(node: &Node, slot: u32, sequence: u64, bytes_per_second: u64) {
    let store = node.context.store.clone();
    let begun = tokio::task::spawn_blocking(move || store.walk(slot, sequence)).await;
    let Ok((walk, bad, mended)) = begun else { return };
    node.scrub.note_frames(bad, mended);
    let Some(mut walk) = walk else { return };
    loop {
        let since = node.context.clock.boottime();
        let Some((next, examined)) = step(node, walk).await else { return };
        walk = next;
        node.scrub.note_examined(&examined);
        examined.chunks.iter().for_each(|chunk| node.context.store.alarm(*chunk));
        if examined.over {
            return;
        }
        let wanted = Duration::from_secs_f64(examined.bytes as f64 / bytes_per_second as f64);
        let took = node.context.clock.boottime().saturating_sub(since);
        tokio::time::sleep(wanted.saturating_sub(took)).await;
    }
}

/// `None` when the step panicked: the rest of this segment is left to the next pass.
async fn step(node: &Node, mut walk: SegmentWalk) -> Option<(SegmentWalk, Examined)> {
    let store = node.context.store.clone();
    let stepped = tokio::task::spawn_blocking(move || {
        let examined = store.walk_on(&mut walk, STEP_BYTES);
        (walk, examined)
    });
    stepped.await.ok()
}
