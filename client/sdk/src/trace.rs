//! Trace ids: one number for all that an operation asks of servers, by which it is found in their logs.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_types::{Random, SystemRandom};
use tonic::Request;

pub use cairn_proto::trace::TraceId;

tokio::task_local! {
    static CURRENT: TraceId;
}

/// Runs `work` under a trace id of the caller's choice: all that it asks of servers in this task carries it,
/// and a line that a server writes about what was slow names it. Without it every call to a metadata
/// server has one of its own, the same in its retries.
pub fn traced<F: Future>(trace: TraceId, work: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(trace, work)
}

/// As [`traced`], under the id in force, or a new one.
pub(crate) fn operation<F: Future>(work: F) -> impl Future<Output = F::Output> {
    // No async fn, which would have room for `work` twice.
    CURRENT.scope(current(), work)
}

/// The id in force, or a new one.
pub(crate) fn current() -> TraceId {
    CURRENT.try_with(|trace| *trace).unwrap_or_else(|_| new())
}

/// Puts the id in force, or a new one, into a request.
pub(crate) fn stamp<T>(request: &mut Request<T>) {
    current().stamp(request);
}

/// A number that no other operation is likely to have: counted on from a random one, so that it costs no
/// call to the kernel.
fn new() -> TraceId {
    static FIRST: OnceLock<u64> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let first = *FIRST.get_or_init(|| SystemRandom.next_u64());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    TraceId(first.wrapping_add(count.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_that_an_operation_asks_has_one_id_and_another_has_another() {
        let stamped = || {
            let mut request = Request::new(());
            stamp(&mut request);
            TraceId::of(request.metadata()).unwrap()
        };
        let (first, again) = operation(async { (stamped(), operation(async { stamped() }).await) }).await;
        assert_eq!(first, again);
        assert_ne!(operation(async { stamped() }).await, first);
        assert_ne!(stamped(), stamped());
        assert_eq!(traced(TraceId(7), async { operation(async { stamped() }).await }).await, TraceId(7));
    }
}
