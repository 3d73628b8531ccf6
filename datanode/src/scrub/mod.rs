//! The scrub: everything that a node holds is read again and again at a bounded rate, so that bytes
//! that rot are found while another copy can still replace them. What a reader finds bad is repaired
//! in the same way, at once.
//!
//! ```text
//! mod.rs       the two tasks: passes, and repairs as alarms come
//! ├── pass.rs     one pass over all segments
//! ├── repair.rs   one replica: from a peer, else from S3, else it is said to be damaged
//! └── figures.rs  what was found and done
//! ```

mod figures;
mod pass;
mod repair;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use figures::{Figures, Summary};

use crate::node::Node;

/// How often what could not be repaired is tried again.
const RETRY: Duration = Duration::from_secs(60);
/// The least rest between two passes, so that an empty store is not looked at without end.
const REST_LEAST: Duration = Duration::from_millis(100);

/// How a node scrubs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Bytes read in a second, at most about; 0: no passes. Repairs of what readers find go on.
    pub bytes_per_second: u64,
    /// From the end of a pass to the next.
    pub rest: Duration,
}

/// Passes and repairs until `stop`.
pub async fn run(node: Arc<Node>, pace: Pace, stop: CancellationToken) {
    let both = async {
        tokio::join!(passes(&node, pace), repairs(&node), retries(&node));
    };
    stop.run_until_cancelled(both).await;
}

async fn passes(node: &Node, pace: Pace) {
    if pace.bytes_per_second == 0 {
        return;
    }
    loop {
        pass::run(node, pace.bytes_per_second).await;
        tokio::time::sleep(pace.rest.max(REST_LEAST)).await;
    }
}

/// One replica at a time: repairs are rare, and must not take a node's disks from its clients.
async fn repairs(node: &Node) {
    loop {
        let chunk = node.context.store.next_alarm().await;
        let outcome = repair::repair(node, chunk).await;
        node.scrub.note_repair(chunk, &outcome);
        match outcome {
            Ok(repair::Outcome::Sound) => {}
            Ok(outcome) => tracing::info!(%chunk, ?outcome, "a bad replica was seen to"),
            Err(error) => {
                tracing::error!(%chunk, %error, "a bad replica cannot be repaired");
                node.context.store.mark_damaged(chunk);
            }
        }
    }
}

async fn retries(node: &Node) {
    loop {
        tokio::time::sleep(RETRY).await;
        for chunk in node.scrub.unrepaired() {
            node.context.store.alarm(chunk);
        }
    }
}
