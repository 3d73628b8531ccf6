//! [`Routes`]: which way leads to an address. One connection an address and lane, made when first asked for.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_types::ClusterId;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tonic::Status;

use super::caller::{Caller, Replies, Sending};
use super::dial::{NotDialled, dial};
use super::hello::{Hello, PeerKind};
use super::message::Framed;

/// Ways remembered, at most; beyond it all are forgotten, and found anew as they are used.
const WAYS_MAX: usize = 1024;
/// How long an address that takes no frames is called by gRPC before it is asked again.
const NOT_SPOKEN: Duration = Duration::from_secs(30);
/// How often a connection that ended just now is replaced for one call.
const TRIES: usize = 3;

/// How the hot calls travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// In frames where the other side takes them, by its unix socket where it is on this machine; else by gRPC.
    #[default]
    Auto,
    /// In frames over TCP where the other side takes them, else by gRPC. For tests and measurements.
    Tcp,
    /// By gRPC alone.
    Grpc,
}

impl FromStr for Transport {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "auto" => Ok(Self::Auto),
            "tcp" => Ok(Self::Tcp),
            "grpc" => Ok(Self::Grpc),
            _ => Err(()),
        }
    }
}

/// Calls that do not wait for each other's bytes: each lane is a connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Small messages that somebody waits for: appends, forwards, lengths.
    Appends,
    /// Blocks of up to 1 MiB.
    Reads,
}

/// The way to an address.
#[derive(Clone, Debug)]
pub enum Route {
    /// A framed connection.
    Frames(Caller),
    /// Frames are not taken there, or not wanted here.
    Grpc,
}

#[derive(Clone, Debug)]
enum Known {
    Frames(Caller),
    NotSpoken { until: Instant },
}

impl Known {
    fn is_stale(&self) -> bool {
        match self {
            Self::Frames(caller) => caller.is_over(),
            Self::NotSpoken { until } => Instant::now() >= *until,
        }
    }
}

type Ways = HashMap<(String, Lane), Arc<OnceCell<Known>>>;

/// The ways of a process to the nodes it calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Routes {
    kind: PeerKind,
    transport: Transport,
    // Guards: one way an address and lane. Held for a map operation only.
    ways: Arc<Mutex<Ways>>,
    // Guards: which addresses were reached by a unix socket when they were dialled last. A hint.
    here: Arc<Mutex<HashMap<String, bool>>>,
}

impl Routes {
    /// No ways yet.
    #[must_use]
    pub fn new(kind: PeerKind, transport: Transport) -> Self {
        Self { kind, transport, ways: Arc::default(), here: Arc::default() }
    }

    fn ways(&self) -> MutexGuard<'_, Ways> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn way(&self, address: &str, lane: Lane) -> Arc<OnceCell<Known>> {
        let mut ways = self.ways();
        let key = (address.to_owned(), lane);
        if let Some(way) = ways.get(&key)
            && !way.get().is_some_and(Known::is_stale)
        {
            return Arc::clone(way);
        }
        if ways.len() >= WAYS_MAX {
            ways.clear();
        }
        let way = Arc::default();
        ways.insert(key, Arc::clone(&way));
        way
    }

    /// The way to `address` (`host:port`), a node of `cluster`. Who asks while a connection is being made waits
    /// for it: 2 s at most.
    ///
    /// # Errors
    /// Nobody is there, or nobody answers.
    pub async fn route(&self, address: &str, lane: Lane, cluster: ClusterId) -> Result<Route, Status> {
        if self.transport == Transport::Grpc {
            return Ok(Route::Grpc);
        }
        let hello = Hello::new(self.kind, cluster);
        let way = self.way(address, lane);
        let found = way.get_or_try_init(|| async {
            match dial(address, hello, self.transport == Transport::Auto).await {
                Ok(caller) => {
                    self.note(address, caller.is_local());
                    Ok(Known::Frames(caller))
                }
                Err(NotDialled::NotSpoken(why)) => {
                    tracing::debug!(address, %why, "no frames there: calls go by gRPC");
                    self.note(address, false);
                    Ok(Known::NotSpoken { until: Instant::now() + NOT_SPOKEN })
                }
                Err(NotDialled::Unreachable(status)) => Err(status),
            }
        });
        Ok(match found.await? {
            Known::Frames(caller) => Route::Frames(caller.clone()),
            Known::NotSpoken { .. } => Route::Grpc,
        })
    }

    fn note(&self, address: &str, is_local: bool) {
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        if here.len() >= WAYS_MAX {
            here.clear();
        }
        here.insert(address.to_owned(), is_local);
    }

    /// True when the node at `address` is on this machine, as far as is known. `None`: it was never dialled; it
    /// counts as being elsewhere from now on, until somebody has.
    #[must_use]
    pub fn is_local(&self, address: &str) -> Option<bool> {
        if self.transport != Transport::Auto {
            return Some(false);
        }
        let known = self.here.lock().unwrap_or_else(PoisonError::into_inner).get(address).copied();
        if known.is_none() {
            self.note(address, false);
        }
        known
    }

    /// A stream to `address`, as [`Caller::open`] has it; `None`: call it by gRPC.
    ///
    /// # Errors
    /// As [`route`](Self::route).
    pub async fn open<M: Framed, A: Framed>(
        &self,
        address: &str,
        lane: Lane,
        cluster: ClusterId,
        (unsent, unread): (usize, usize),
    ) -> Result<Option<(Sending<M>, Replies<A>)>, Status> {
        for _ in 0..TRIES {
            let Route::Frames(caller) = self.route(address, lane, cluster).await? else { return Ok(None) };
            if let Some(stream) = caller.open(unsent, unread) {
                return Ok(Some(stream));
            }
        }
        Err(Status::unavailable("the framed connection breaks as soon as it is made"))
    }

    /// Forgets the ways to `address`, so that the next call finds one anew. Streams go on.
    pub fn forget(&self, address: &str) {
        self.ways().retain(|(known, _), _| known != address);
    }
}
