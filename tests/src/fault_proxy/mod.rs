//! A proxy in front of an S3 endpoint that fails on purpose: slow, refusing, cut, lying, silent.
//!
//! HTTP/1.1, in this process. Requests pass unchanged, `Host` included, so that SigV4 signatures
//! stay valid; bodies are streamed, never held. What goes wrong is switched at run time:
//! [`FaultProxy::inject`] for requests that match a [`When`], [`FaultProxy::set_link`] for the
//! network as a whole.
//!
//! A request passes `listener` (connections, the link), `exchange` (rules, forwarding, answers) and
//! `body` (what happens to bytes on their way); `rules` says which fault, `log` what was seen.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use cairn_tests::fault_proxy::{Fault, FaultProxy, When};
//! let proxy = FaultProxy::start("127.0.0.1:8333").await?;
//! let rule = proxy.inject(When::method("PUT").path_contains("/packs/").times(3), Fault::SlowDown);
//! // ... the client at proxy.endpoint() sees three 503s ...
//! assert_eq!(proxy.requests_with_method("PUT"), 3);
//! proxy.remove(rule);
//! # Ok(()) }
//! ```

#![allow(clippy::disallowed_methods, reason = "stands between real processes, in real time")]

mod body;
mod exchange;
mod fault;
mod listener;
mod log;
mod rules;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use fault::{Fault, Link};
pub use log::{Counts, SeenRequest};
pub use rules::{RuleId, When};

use log::RequestLog;
use rules::Rules;

use crate::s3_server::free_ports;

/// What the proxy's tasks and its handle share.
#[derive(Debug)]
struct Shared {
    upstream: String,
    /// Guards that a rule's uses are counted and its fault picked in one step. Never held across an
    /// await.
    rules: Mutex<Rules>,
    /// Guards that a request is in the log and in the counts, or in neither. Never held across an
    /// await.
    log: Mutex<RequestLog>,
    link: watch::Sender<Link>,
    /// Raised when rules are taken away, so that requests held in a black hole end.
    rules_changed: watch::Sender<u64>,
}

impl Shared {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn log(&self) -> MutexGuard<'_, RequestLog> {
        self.log.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A running proxy. Dropping it closes its port and cuts its connections.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl FaultProxy {
    /// Starts a proxy on a free port of 127.0.0.1 that forwards to `upstream`: `host:port`, or an
    /// endpoint `http://host:port`.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(upstream: &str) -> io::Result<Self> {
        let upstream = upstream.strip_prefix("http://").unwrap_or(upstream);
        // Below the range of outgoing connections: while the link refuses, nobody else takes it.
        let port = free_ports(1).map_err(io::Error::other)?[0];
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let shared = Arc::new(Shared {
            upstream: upstream.trim_end_matches('/').to_owned(),
            rules: Mutex::default(),
            log: Mutex::default(),
            link: watch::Sender::new(Link::Up),
            rules_changed: watch::Sender::new(0),
        });
        let task = tokio::spawn(listener::serve(listener, Arc::clone(&shared)));
        Ok(Self { port, shared, task })
    }

    /// `http://127.0.0.1:PORT`: what clients connect to. It never changes.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on requests that match get this fault. Rules are asked in the order they were added;
    /// latencies add up, of the other faults the first applies.
    pub fn inject(&self, when: When, fault: Fault) -> RuleId {
        self.shared.rules().add(when, fault)
    }

    /// Takes one rule away. Requests that a black hole holds are cut.
    pub fn remove(&self, rule: RuleId) {
        self.shared.rules().remove(rule);
        self.shared.rules_changed.send_modify(|generation| *generation += 1);
    }

    /// Sets the state of the network: whether connections are made at all. Holds until set again.
    pub fn set_link(&self, link: Link) {
        self.shared.link.send_replace(link);
    }

    /// Takes all rules away and sets the link up. Returns at once; a client that connects in the
    /// first milliseconds may still be refused.
    pub fn heal(&self) {
        self.shared.rules().clear();
        self.shared.rules_changed.send_modify(|generation| *generation += 1);
        self.set_link(Link::Up);
    }

    /// How many requests of this method arrived, whatever became of them.
    pub fn requests_with_method(&self, method: &str) -> u64 {
        self.shared.log().requests_with_method(method)
    }

    /// All counters at this moment.
    pub fn counts(&self) -> Counts {
        self.shared.log().counts().clone()
    }

    /// How many of the remembered requests (the last 65,536) match, `skip` and `times` aside.
    pub fn requests_matching(&self, when: &When) -> usize {
        self.shared.log().remembered().filter(|seen| when.matches_seen(seen)).count()
    }

    /// The remembered requests (the last 65,536), oldest first.
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.shared.log().remembered().cloned().collect()
    }

    /// Sets all counters to zero and forgets all requests.
    pub fn reset_counts(&self) {
        self.shared.log().reset();
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.set_link(Link::Refused);
        self.task.abort();
    }
}
