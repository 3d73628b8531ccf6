//! Which request a task works for: its trace id, and what it is about, for the lines that are written
//! about what was slow, and for what this server asks of others because of it.

use std::cell::RefCell;
use std::future::Future;

use bytes::Bytes;
use cairn_proto::trace::TraceId;
use tonic::Request;

tokio::task_local! {
    static CURRENT: Current;
}

struct Current {
    trace: TraceId,
    about: RefCell<About>,
}

/// What a request is about, as far as it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The session; 0: none.
    pub session: u64,
    /// The first sequence of a change in it; 0: no change.
    pub sequence: u64,
    /// The inode from which the path goes.
    pub ino: u64,
    /// The path.
    pub path: Bytes,
}

/// Runs `work` for the request with this trace id.
pub fn within<F: Future>(trace: TraceId, work: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(Current { trace, about: RefCell::default() }, work)
}

/// Notes what the request at work is about; nothing outside a request.
pub fn note(about: About) {
    // Outside a request there is nobody to tell.
    let _ = CURRENT.try_with(|current| current.about.replace(about));
}

/// The trace id of the request that this task works for.
#[must_use]
pub fn id() -> Option<TraceId> {
    CURRENT.try_with(|current| current.trace).ok()
}

/// What the request that this task works for is about.
#[must_use]
pub fn about() -> About {
    CURRENT.try_with(|current| current.about.borrow().clone()).unwrap_or_default()
}

/// Puts the trace id of the request at work into one that is made for it.
pub fn stamp<T>(request: &mut Request<T>) {
    if let Some(trace) = id() {
        trace.stamp(request);
    }
}

/// A trace id as a line of the log has it; empty outside a request.
#[must_use]
pub fn shown() -> String {
    id().map(|trace| trace.to_string()).unwrap_or_default()
}
