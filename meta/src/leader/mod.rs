//! The leader's jobs: they run while this server leads, and act only by proposing commands.
//!
//! A [`Tenure`] is one term of leadership with what is kept in memory for it. Everything there is
//! derived from the state or heard from data nodes, so that a new leader goes on where the old
//! one stopped.

pub mod aging;
pub mod board;
pub mod collect;
pub mod compact;
pub mod data;
pub mod domains;
pub mod drain;
pub mod errands;
pub mod first_seen;
pub mod gc;
pub mod group;
#[cfg(test)]
pub mod hand_clock;
pub mod holds;
pub mod intents;
pub mod lag;
pub mod leases;
pub mod leaving;
pub mod look;
pub mod merge;
pub mod mounting;
pub mod nodes;
pub mod notice;
pub mod persist;
pub mod placement;
pub mod removal;
pub mod repair;
pub mod rows;
pub mod seal;
pub mod sessions;
pub mod sparse;
pub mod survey;
pub mod sweep;
pub mod tenure;
pub mod trees;
pub mod turns;
pub mod uploads;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use cairn_types::ClusterId;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::node::{Node, Term};
pub use tenure::{Ground, Tenure};

/// How long a tenure that broke off rests before it begins again.
const REST: Duration = Duration::from_secs(1);

/// Where services find the tenure, while this server leads. Cheap to clone.
#[derive(Clone)]
pub struct Leader {
    current: watch::Receiver<Option<Arc<Tenure>>>,
}

impl Leader {
    /// The tenure, while this server leads.
    #[must_use]
    pub fn tenure(&self) -> Option<Arc<Tenure>> {
        self.current.borrow().clone()
    }

    /// A leader and the future that runs its jobs until `shutdown`.
    pub fn start(ground: Ground, shutdown: CancellationToken) -> (Self, impl Future<Output = ()> + Send) {
        let (tx, current) = watch::channel(None);
        (Self { current }, run(ground, tx, shutdown))
    }
}

async fn run(ground: Ground, current: watch::Sender<Option<Arc<Tenure>>>, shutdown: CancellationToken) {
    let mut leadership = ground.node.leadership();
    while !shutdown.is_cancelled() {
        let term = *leadership.borrow_and_update();
        if let Some(term) = term {
            let over = async {
                // An error means that the node is gone: leadership with it.
                let _ = leadership.wait_for(|now| *now != Some(term)).await;
            };
            lead(&ground, term, &current, &shutdown, over).await;
        } else {
            let changed = shutdown.run_until_cancelled(leadership.changed()).await;
            if !matches!(changed, Some(Ok(()))) {
                break;
            }
        }
    }
}

/// One tenure, from its beginning until `over`, `shutdown`, or a fault.
async fn lead(
    ground: &Ground,
    term: Term,
    current: &watch::Sender<Option<Arc<Tenure>>>,
    shutdown: &CancellationToken,
    over: impl Future<Output = ()>,
) {
    let stop = shutdown.child_token();
    tokio::pin!(over);
    let cluster = tokio::select! {
        cluster = cluster_id(&ground.node) => cluster,
        () = &mut over => return,
        () = shutdown.cancelled() => return,
    };
    let (tenure, asks) = match Tenure::begin(ground.clone(), cluster, term, stop.clone()) {
        Ok(begun) => begun,
        Err(error) => {
            tracing::error!(%error, "the state cannot be read: this server does not lead");
            tokio::time::sleep(REST).await;
            return;
        }
    };
    tracing::info!(term = term.0, "leading");
    let mut jobs = JoinSet::new();
    jobs.spawn(seal::run(tenure.clone(), asks));
    jobs.spawn(sweep::run(tenure.clone()));
    jobs.spawn(sessions::run(tenure.clone()));
    jobs.spawn(persist::run(tenure.clone()));
    jobs.spawn(aging::run(tenure.clone()));
    jobs.spawn(intents::run(tenure.clone()));
    jobs.spawn(removal::run(tenure.clone()));
    jobs.spawn(drain::run(tenure.clone()));
    jobs.spawn(repair::run(tenure.clone()));
    jobs.spawn(collect::run(tenure.clone()));
    jobs.spawn(compact::run(tenure.clone()));
    jobs.spawn(merge::run(tenure.clone()));
    jobs.spawn(mounting::run(tenure.clone()));
    jobs.spawn(survey::run(tenure.clone()));
    jobs.spawn(trees::run(tenure.clone()));
    jobs.spawn(holds::run(tenure.clone()));
    current.send_replace(Some(tenure));
    let broke = tokio::select! {
        () = over => false,
        () = shutdown.cancelled() => false,
        ended = jobs.join_next() => {
            tracing::error!(?ended, "a leader's job ended by itself: the tenure begins again");
            true
        }
    };
    current.send_replace(None);
    stop.cancel();
    jobs.shutdown().await;
    tracing::info!(term = term.0, "no longer leading");
    if broke {
        tokio::time::sleep(REST).await;
    }
}

/// Waits until the cluster has an identity: its first leader gives it one.
async fn cluster_id(node: &Node) -> ClusterId {
    let mut applied = node.applied();
    loop {
        if let Some(id) = node.cluster_id() {
            return id;
        }
        if applied.changed().await.is_err() {
            // The node is gone; leadership ends as well.
            std::future::pending::<()>().await;
        }
    }
}
