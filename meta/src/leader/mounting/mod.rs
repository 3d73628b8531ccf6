//! Brings mounted buckets to what the namespace says, object by object (docs/adr/0013-mounts-are-reconciled.md).
//!
//! ```text
//! mod.rs       the job: looks, proposes, tells
//! ├── look.rs     what a mount's rows ask for, so many at a time
//! ├── ripe.rs     when a pending file is written
//! ├── share.rs    how many objects are begun at once, and in a second
//! ├── rests.rs    what could not be begun, and when it is tried again
//! ├── retries.rs  where what failed for good is tried once more
//! ├── tries.rs    what is proposed
//! ├── flights.rs  the work that is under way
//! └── tell.rs     what is told of each mount
//! ```
//!
//! All that has to be done is in the rows; a new leader goes on from them. What is remembered here saves looks
//! and tries. Each entry that is proposed decides by itself what is to be done about a file, or that nothing is:
//! so a look at a state that has moved on costs a try.

mod flights;
mod look;
mod rests;
pub mod retries;
mod ripe;
mod share;
mod tell;
mod tries;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cairn_types::{ChunkId, FeatureLevel, InodeId, MountId};
use futures::StreamExt;
use futures::future::join_all;
use tokio::task::JoinSet;

use self::flights::{Flights, Kind};
use self::look::{Desk, Found};
use self::share::{Claim, IN_FLIGHT_MAX, PER_MOUNT_MAX, Pace, Places, share};
use self::tell::Told;
use self::tries::{Begun, Step, Task, begin, close, walk};
use super::first_seen::Now;
use super::tenure::{JobFault, Tenure};
use super::turns::Turns;
use super::{intents, rows};
use crate::keys::RowFault;
use crate::keys::mount_counts::MountCounts;
use crate::keys::mount_modes::MountMode;
use crate::namespace::mounting::{self, Figures};
use crate::namespace::{Command, jobs};
use crate::store::Rows;

/// Files that are pending in a mount while its directories' trees follow them, at most; beyond it the walks wait, as
/// long as there is work on them.
const PENDING_MAX: u64 = 10_000;
/// Names that one step of a walk makes pending, at most.
const NAMES_PER_STEP: u64 = 512;
/// Steps of one directory's walk in a turn, at most.
const STEPS_PER_WALK: usize = 8;
/// Walks that are gone on with at once, and tails that are closed at once, at most.
const AT_ONCE: usize = 16;

/// A mount that is more than read, as a turn found it.
struct Mounted {
    mount: MountId,
    mode: MountMode,
    counts: MountCounts,
    oldest_ms: u64,
}

/// What the job keeps between turns.
struct Job {
    desks: BTreeMap<MountId, Desk>,
    flights: Flights,
    pace: Pace,
    /// Which mount is first at the next turn.
    first: usize,
    told: Told,
    /// Tails that are being closed. They end with the job.
    closing: JoinSet<()>,
}

/// Runs until the tenure ends.
pub async fn run(tenure: Arc<Tenure>) {
    let mut turns = Turns::new(&tenure, "mounting", Duration::from_millis(250));
    let mut job = Job {
        desks: BTreeMap::new(),
        flights: Flights::default(),
        pace: Pace::new(tenure.mount_objects_per_second),
        first: 0,
        told: Told::default(),
        closing: JoinSet::new(),
    };
    while turns.next().await {
        turns.ended(job.turn(&tenure).await);
    }
}

impl Job {
    async fn turn(&mut self, tenure: &Arc<Tenure>) -> Result<(), JobFault> {
        let now = Now::of(&*tenure.clock);
        let view = tenure.local()?;
        let Some(mounts) = tokio::task::spawn_blocking(move || mounts(&*view.store, now)).await?? else {
            return Ok(());
        };
        self.desks.retain(|mount, _| mounts.iter().any(|mounted| mounted.mount == *mount));
        if mounts.is_empty() && self.flights.count() == 0 {
            self.told.tell(&mounts, &self.flights);
            return Ok(());
        }
        let (view, mut flights) = (tenure.local()?, std::mem::take(&mut self.flights));
        let refresh = move || flights.refresh(&*view.store, now.boot).map(|()| flights);
        // When the read breaks off, they are all searched for anew.
        self.flights = tokio::task::spawn_blocking(refresh).await??;
        self.told.tell(&mounts, &self.flights);
        let nodes = intents::live_nodes(tenure);
        let mut places = Places::of(&nodes, self.flights.nodes());
        self.probe(tenure, &mounts, now).await?;
        let found = self.look(tenure, mounts, now).await?;
        for (mounted, found) in &found {
            self.close(tenure, mounted.mount, &found.tails, now);
            self.follow(tenure, mounted, found, now).await?;
        }
        self.begin(tenure, found, &mut places, now).await
    }

    /// Has the endpoints probed of which nobody knows what they can do.
    async fn probe(&mut self, tenure: &Arc<Tenure>, mounts: &[Mounted], now: Now) -> Result<(), JobFault> {
        for Mounted { mount, mode, .. } in mounts {
            let desk = self.desks.entry(*mount).or_default();
            let again = tenure.retries.take(*mount, now.boot);
            if again {
                desk.retry();
            }
            // An intent that is not done yet is answered by the entry.
            let asked = mode.probe.is_some() && !again;
            if mode.abilities.is_some() || asked || desk.probes.is_resting(&(), now.boot) {
                continue;
            }
            let Some(assignee) = intents::pick(tenure, &intents::live_nodes(tenure)) else { return Ok(()) };
            desk.probes.put((), now.boot);
            if tenure.try_propose(Command::CreateProbe { mount: *mount, assignee }).await?.is_some() {
                tracing::info!(%mount, node = %assignee, "a mount's endpoint is probed");
                tenure.stir();
            }
        }
        Ok(())
    }

    /// What is to be done in each mount.
    async fn look(
        &mut self,
        tenure: &Tenure,
        mounts: Vec<Mounted>,
        now: Now,
    ) -> Result<Vec<(Mounted, Found)>, JobFault> {
        let mut desks = std::mem::take(&mut self.desks);
        let allowed = self.pace.allowed(now.boot);
        let room =
            |mounted: &Mounted| PER_MOUNT_MAX.saturating_sub(self.in_flight(mounted.mount)).min(allowed);
        let rooms: Vec<usize> = mounts.iter().map(room).collect();
        let view = tenure.local()?;
        let look = move || {
            let mut all = Vec::with_capacity(mounts.len());
            for (mounted, room) in mounts.into_iter().zip(rooms) {
                let desk = desks.entry(mounted.mount).or_default();
                let found = desk.look(&*view.store, &mounted, room, now)?;
                all.push((mounted, found));
            }
            Ok::<_, RowFault>((all, desks))
        };
        // When the read breaks off, what is remembered is lost, and remembered again.
        let (found, desks) = tokio::task::spawn_blocking(look).await??;
        self.desks = desks;
        Ok(found)
    }

    fn in_flight(&self, mount: MountId) -> usize {
        self.flights.of(mount, Kind::Put) + self.flights.of(mount, Kind::Deletion)
    }

    /// Closes tails. A primary may take long: the turn does not wait for it.
    fn close(&mut self, tenure: &Arc<Tenure>, mount: MountId, tails: &[(InodeId, ChunkId)], now: Now) {
        while self.closing.try_join_next().is_some() {}
        let Some(desk) = self.desks.get_mut(&mount) else { return };
        for (ino, tail) in tails {
            if self.closing.len() >= AT_ONCE {
                return;
            }
            desk.seen.close(*ino, *tail);
            desk.files.put(*ino, now.boot);
            self.closing.spawn(close(Arc::clone(tenure), *tail));
        }
    }

    /// Lets trees follow their directories, and forgets prefixes that they left.
    async fn follow(
        &mut self,
        tenure: &Arc<Tenure>,
        mounted: &Mounted,
        found: &Found,
        now: Now,
    ) -> Result<(), JobFault> {
        let (mount, in_flight) = (mounted.mount, self.in_flight(mounted.mount));
        let Some(desk) = self.desks.get_mut(&mount) else { return Ok(()) };
        let steps = steps(&mounted.counts, in_flight == 0 && found.puts.is_empty());
        let each = (steps / found.walks.len().max(1)).clamp(1, STEPS_PER_WALK);
        let walks = futures::stream::iter(found.walks.iter().copied().take(steps))
            .map(|directory| async move { (directory, walk(tenure, mount, directory, each).await) })
            .buffer_unordered(AT_ONCE);
        for (directory, step) in walks.collect::<Vec<_>>().await {
            match step? {
                Step::Forward => {
                    desk.walks.remove(&directory);
                    tenure.stir();
                }
                Step::Waits => desk.walks.put(directory, now.boot),
            }
        }
        for prefix in &found.left {
            let command = Command::EndMove { mount, prefix: prefix.clone() };
            match tenure.try_propose(command).await? {
                Some(_) => desk.moves.remove(prefix),
                None => desk.moves.put(prefix.clone(), now.boot),
            }
        }
        Ok(())
    }

    /// Has objects written and deleted, as many as there are places for.
    async fn begin(
        &mut self,
        tenure: &Arc<Tenure>,
        found: Vec<(Mounted, Found)>,
        places: &mut Places,
        now: Now,
    ) -> Result<(), JobFault> {
        let claim = |(mounted, found): &(Mounted, Found)| Claim {
            in_flight: self.in_flight(mounted.mount),
            wanted: found.puts.len() + found.deletions.len(),
        };
        let claims: Vec<Claim> = found.iter().map(claim).collect();
        let free = IN_FLIGHT_MAX.saturating_sub(self.flights.count()).min(places.left());
        let given = share(&claims, free.min(self.pace.allowed(now.boot)), self.first);
        self.first = self.first.wrapping_add(1) % claims.len().max(1);
        let mut tries = Vec::new();
        for ((mounted, found), given) in found.into_iter().zip(given) {
            // Half of the places at least are for either kind, while it has a use for them.
            let deletions =
                found.deletions.len().min((given / 2).max(given.saturating_sub(found.puts.len())));
            let puts = found.puts.into_iter().take(given - deletions).map(Task::Put);
            let deletions = found.deletions.into_iter().take(deletions).map(Task::Delete);
            tries.extend(puts.chain(deletions).map(|task| (mounted.mount, task)));
        }
        self.pace.charge(tries.len());
        let assigned = tries.into_iter().filter_map(|(mount, task)| Some((mount, task, places.take()?)));
        let begun = join_all(assigned.map(|(mount, task, node)| begin(tenure, mount, task, node))).await;
        if begun.iter().any(|(_, _, outcome)| matches!(outcome, Ok(Begun::Work(_)))) {
            tenure.stir();
        }
        let mut outcome = Ok(());
        for (mount, task, begun) in begun {
            match begun {
                Ok(begun) => self.note(mount, task, begun, now),
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// Remembers what became of a try.
    fn note(&mut self, mount: MountId, task: Task, begun: Begun, now: Now) {
        let Some(desk) = self.desks.get_mut(&mount) else { return };
        match (begun, task) {
            (Begun::Blocked, Task::Put(ino)) => desk.files.put(ino, now.boot),
            (Begun::Blocked, Task::Delete(key)) => desk.objects.put(key, now.boot),
            (begun, task) => {
                if let Begun::Work(intent) = begun {
                    self.flights.made(intent);
                }
                match task {
                    Task::Put(ino) => {
                        desk.seen.make(ino, now.boot);
                        desk.files.remove(&ino);
                    }
                    Task::Delete(key) => desk.objects.remove(&key),
                }
            }
        }
    }
}

/// How many steps the walks of a mount may take now: each may make as many files pending as it has names. One at
/// least where no work is under way nor to be begun: who waits for the key of a file that no walk has come to yet
/// waits for the walks.
fn steps(counts: &MountCounts, stuck: bool) -> usize {
    let left = PENDING_MAX.saturating_sub(counts.pending.saturating_sub(counts.walking));
    usize::try_from(left.div_ceil(NAMES_PER_STEP)).unwrap_or(usize::MAX).max(usize::from(stuck))
}

/// The mounts that are more than read; `None` before the cluster's level is that of mounts that are written to.
fn mounts(state: &dyn Rows, now: Now) -> Result<Option<Vec<Mounted>>, RowFault> {
    if jobs::level(state)? < FeatureLevel::SIXTH {
        return Ok(None);
    }
    let mut found = Vec::new();
    for (mount, mode) in rows::mount_modes(state)? {
        let Figures { counts, oldest_pending } = mounting::figures(state, mount)?;
        let oldest_ms = oldest_pending.map_or(0, |since| now.age_ms(since, Duration::ZERO));
        found.push(Mounted { mount, mode, counts, oldest_ms });
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_wait_while_many_files_are_pending() {
        let counts = |pending, walking| MountCounts { pending, walking, ..MountCounts::default() };
        assert_eq!(steps(&counts(0, 0), false), 20);
        assert_eq!(steps(&counts(5_000, 5_000), true), 20, "directories are no files");
        assert_eq!(steps(&counts(9_999, 0), false), 1);
        assert_eq!(steps(&counts(PENDING_MAX, 0), false), 0);
        assert_eq!(steps(&counts(1_000_000, 1), false), 0);
        assert_eq!(steps(&counts(1_000_000, 1), true), 1, "all of them may wait for one that is to come");
    }
}
