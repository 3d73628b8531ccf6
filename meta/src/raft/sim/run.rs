//! One run: a cluster of three, its clients, its faults, and the end of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn_types::LogIndex;
use openraft::AsyncRuntime;
use openraft::async_runtime::WatchReceiver;
use openraft::impls::BasicNode;
use tokio::sync::oneshot;

use super::client::Client;
use super::executor::{World, sleep};
use super::hub::{Hub, Running, Weather, directory};
use super::ledger::Counts;
use super::lie::Lie;
use super::runtime::Runtime;
use super::{check, nemesis};

const CLIENTS: u64 = 3;
/// After the faults everything must come to rest in this time.
const REST: Duration = Duration::from_secs(120);

/// What a run was.
#[derive(Clone, Debug)]
pub struct Report {
    /// A hash of all that happened, in its order.
    pub trace: u64,
    pub story: Vec<String>,
    pub entries: u64,
    pub acknowledged: u64,
    pub reads: u64,
    pub counts: Counts,
}

/// What a run found, and how it came to it.
#[derive(Debug)]
pub struct Found {
    pub faults: Vec<String>,
    pub story: Vec<String>,
}

/// The servers come to hold the same, all that the leader has.
async fn rest(hub: &Hub) -> Result<Vec<Running>, String> {
    let end = hub.world.now() + REST;
    let mut last = String::new();
    while hub.world.now() < end {
        sleep(Duration::from_millis(100)).await;
        let Some((leader, voters)) = nemesis::leader(hub) else { continue };
        voters.iter().for_each(|voter| hub.start(*voter));
        let Some(leading) = hub.running(leader) else { continue };
        let log_end = leading.raft.metrics().borrow_watched().last_log_index.unwrap_or(0);
        let members: Vec<Running> = voters.iter().filter_map(|voter| hub.running(*voter)).collect();
        let applied: Vec<LogIndex> = members.iter().map(|running| *running.view.applied.borrow()).collect();
        last = format!("leader {leader} of {voters:?}, log to {log_end}, applied {applied:?}");
        if members.len() == voters.len() && applied.iter().all(|at| at.0 == log_end) {
            return Ok(members);
        }
    }
    Err(format!("the servers do not come to rest: {last}"))
}

async fn form(hub: Arc<Hub>) {
    loop {
        sleep(Duration::from_millis(50)).await;
        let members: std::collections::BTreeMap<u64, BasicNode> =
            (1..=3).map(|id| (id, BasicNode { addr: format!("server-{id}") })).collect();
        let Some(first) = hub.running(1) else { continue };
        let formed = first.raft.is_initialized().await;
        if matches!(formed, Ok(true)) || first.raft.initialize(members).await.is_ok() {
            return;
        }
    }
}

async fn live(hub: Arc<Hub>) -> Result<Report, String> {
    (1..=3).for_each(|server| hub.start(server));
    form(Arc::clone(&hub)).await;
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<oneshot::Receiver<()>> = (1..=CLIENTS)
        .map(|number| {
            let (end, ended) = oneshot::channel();
            let client = Client::new(Arc::clone(&hub), number).run(Arc::clone(&over));
            hub.world.spawn_in(0, async move {
                client.await;
                // The run may be over.
                let _ = end.send(());
            });
            ended
        })
        .collect();
    let (time, swaps) = hub.world.roll(|dice| (dice.micros(4_000_000, 16_000_000), dice.below(3)));
    nemesis::run(Arc::clone(&hub), time, swaps).await;
    sleep(Duration::from_secs(7)).await;
    if !hub.ledger.faults().is_empty() {
        // What was seen is not undone by waiting until all is well again, which it may never be.
        return Err("a fault was seen under way".to_owned());
    }
    hub.world.tell(|| "the faults are over".to_owned());
    hub.calm();
    hub.known().into_iter().for_each(|server| hub.start(server));
    over.store(true, Ordering::Relaxed);
    let all = futures::future::join_all(clients);
    let ended = <Runtime as AsyncRuntime>::timeout(REST, all).await;
    let members = rest(&hub).await?;
    ended.map_err(|_| "a client waits for an answer though all servers are well".to_owned())?;
    let mut states = Vec::new();
    for member in &members {
        let state = member.view.current.get().ok_or("a server has no state")?;
        states.push((member.life.server, check::dump(state.store())));
    }
    for (server, state) in &states[1..] {
        if let Some(what) = check::difference(&states[0].1, state) {
            return Err(format!("servers {} and {server} differ in {what}", states[0].0));
        }
    }
    let state = members[0].view.current.get().ok_or("a server has no state")?;
    let entries = check::replay(&hub.ledger, state.store())?;
    let pages = hub.ledger.pages();
    let (acknowledged, reads) = (pages.acknowledged.len() as u64, pages.seen.len() as u64);
    Ok(Report { trace: 0, story: Vec::new(), entries, acknowledged, reads, counts: pages.counts })
}

/// Runs the seed, with a fault planted if there is a `lie`.
pub fn run(seed: u64, lie: Option<Lie>) -> Result<Report, Found> {
    let world = World::new(seed);
    let directory = directory().unwrap();
    let weather =
        world.roll(|dice| Weather { lost: dice.below(6), twice: dice.below(4), late: dice.below(6) });
    let hub = Hub::new(world.clone(), directory.path().to_owned(), weather, lie);
    let living = Arc::clone(&hub);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run(live(living))));
    let mut faults = hub.ledger.faults();
    let report = match outcome {
        Ok(Ok(report)) => Some(report),
        Ok(Err(fault)) => {
            faults.push(fault);
            None
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            faults.push(format!("panic: {}", text.unwrap_or_default()));
            None
        }
    };
    match report {
        Some(report) if faults.is_empty() => {
            Ok(Report { trace: world.trace(), story: world.story(), ..report })
        }
        _ => Err(Found { faults, story: world.story() }),
    }
}
