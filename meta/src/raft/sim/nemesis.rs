//! The faults: deaths at every point of a server's writes, a loss of power of all, cuts of the network,
//! changes of leaders and members.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::impls::BasicNode;

use super::executor::sleep;
use super::hub::Hub;
use super::life::{Fuse, Point};

const PATIENCE: Duration = Duration::from_secs(2);

/// Who leads, as that one says, and the voters.
pub fn leader(hub: &Hub) -> Option<(u64, BTreeSet<u64>)> {
    hub.all_running().into_iter().find_map(|(server, running)| {
        let metrics = running.raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters = metrics.membership_config.membership().voter_ids().collect();
        (metrics.current_leader == Some(server) && metrics.state.is_leader()).then_some((server, voters))
    })
}

/// Lets a server die at one of its next writes.
fn light(hub: &Hub) {
    let lives = hub.lives();
    if lives.is_empty() {
        return;
    }
    let (nth, fuse) = hub.world.roll(|dice| {
        let point = dice.percent(70).then(|| dice.one(&Point::ALL));
        let left = if dice.percent(60) { 0 } else { dice.below(12) };
        (dice.below(lives.len() as u64) as usize, Fuse { point, left, before: dice.percent(40) })
    });
    lives[nth].light(fuse);
}

/// Cuts off one server, or the one way to another.
async fn part(hub: Arc<Hub>) {
    let servers = hub.known();
    let (one, other, whole, time) = hub.world.roll(|dice| {
        let (one, other) = (dice.one(&servers), dice.one(&servers));
        (one, other, dice.percent(60), dice.micros(100_000, 3_000_000))
    });
    hub.world.tell(|| format!("server {one} is cut off: {}", if whole { 0 } else { other }));
    for peer in servers.iter().filter(|peer| whole || **peer == other) {
        hub.cut(one, *peer);
        if whole {
            hub.cut(*peer, one);
        }
    }
    sleep(time).await;
    hub.mend();
}

/// A new server takes the place of an old one.
async fn swap(hub: Arc<Hub>) {
    let Some((leader, voters)) = leader(&hub) else { return };
    let new = hub.known().last().copied().unwrap_or(0) + 1;
    let voters: Vec<u64> = voters.into_iter().collect();
    let old = hub.world.roll(|dice| dice.one(&voters));
    hub.world.tell(|| format!("server {new} is to take the place of {old}"));
    hub.start(new);
    sleep(Duration::from_millis(50)).await;
    let node = BasicNode { addr: format!("server-{new}") };
    let added = hub.ask((0, leader), PATIENCE, move |running| {
        let node = node.clone();
        async move { running.raft.add_learner(new, node, false).await.is_ok() }
    });
    if added.await != Ok(true) {
        return;
    }
    sleep(hub.world.roll(|dice| dice.micros(1_000, 1_000_000))).await;
    let wanted: BTreeSet<u64> = voters.iter().copied().filter(|id| *id != old).chain([new]).collect();
    let changed = hub.ask((0, leader), PATIENCE, move |running| {
        let wanted = wanted.clone();
        async move { running.raft.change_membership(wanted, false).await.is_ok() }
    });
    if changed.await == Ok(true) {
        hub.world.tell(|| format!("server {new} has the place of {old}"));
        hub.ledger.pages().counts.changes += 1;
        sleep(hub.world.roll(|dice| dice.micros(1_000, 2_000_000))).await;
        hub.retire(old);
    }
}

/// A server stays away until the others' logs are past what it has.
async fn away(hub: Arc<Hub>) {
    let servers = hub.known();
    let server = hub.world.roll(|dice| dice.one(&servers));
    hub.hold(server);
    sleep(Duration::from_secs(6)).await;
    hub.start(server);
}

async fn another_leader(hub: Arc<Hub>) {
    let running = hub.all_running();
    if running.is_empty() {
        return;
    }
    let (nth, elects, other) = hub.world.roll(|dice| {
        (
            dice.below(running.len() as u64) as usize,
            dice.percent(50),
            dice.below(running.len() as u64) as usize,
        )
    });
    let (raft, to) = (running[nth].1.raft.clone(), running[other].0);
    // It may not lead, or be gone.
    let _ = if elects { raft.trigger().elect(true).await } else { raft.trigger().transfer_leader(to).await };
}

/// Makes trouble for a while.
pub async fn run(hub: Arc<Hub>, time: Duration, swaps: u64) {
    let (end, mut swaps) = (hub.world.now() + time, swaps);
    while hub.world.now() < end {
        sleep(hub.world.roll(|dice| dice.micros(20_000, 1_000_000))).await;
        let next = Arc::clone(&hub);
        match hub.world.roll(|dice| dice.below(100)) {
            0..50 => light(&hub),
            50..58 => hub.lives().iter().for_each(|life| life.die("as the power fails")),
            58..74 => hub.world.spawn_in(0, part(next)),
            74..84 => another_leader(next).await,
            84..92 if swaps > 0 => {
                swaps -= 1;
                hub.world.spawn_in(0, swap(next));
            }
            92..96 => hub.world.spawn_in(0, away(next)),
            _ => {}
        }
    }
}
