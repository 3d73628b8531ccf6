//! [`Hub`]: the servers and the network between them.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use cairn_types::{Clock, Timestamp};
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use super::executor::{World, sleep};
use super::ledger::Ledger;
use super::lie::Lie;
use super::life::Life;
use super::log::Platter;
use super::recorded::Recorded;
use super::server;
use crate::raft::TypeConfig;
use crate::raft::machine::View;

/// The Raft core of a simulated server.
pub type SimRaft = openraft::Raft<TypeConfig, Recorded>;

/// How the network is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Of 100 messages so many are lost.
    pub lost: u64,
    /// Of 100 messages so many come twice.
    pub twice: u64,
    /// Of 100 messages so many are late, by up to a second.
    pub late: u64,
}

/// A server that runs.
#[derive(Clone)]
pub struct Running {
    pub life: Arc<Life>,
    pub raft: SimRaft,
    pub view: View,
}

/// What outlives a server's process.
#[derive(Clone)]
pub struct Slot {
    pub dir: PathBuf,
    pub platter: Arc<Mutex<Platter>>,
}

struct Inside {
    slots: BTreeMap<u64, Slot>,
    /// The newest life of each server that is not over, whether it has begun to answer or not.
    lives: BTreeMap<u64, Arc<Life>>,
    running: BTreeMap<u64, Running>,
    cut: BTreeSet<(u64, u64)>,
    /// They do not come back by themselves.
    held: BTreeSet<u64>,
    /// They never come back.
    retired: BTreeSet<u64>,
    next_life: u64,
    weather: Weather,
    files: u64,
}

/// The servers and the network.
pub struct Hub {
    pub world: World,
    pub ledger: Ledger,
    pub lie: Option<Lie>,
    pub root: PathBuf,
    this: Weak<Hub>,
    // Guards nothing across awaits: who runs, and who reaches whom.
    inside: Mutex<Inside>,
}

/// Why a request got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Nobody listens there.
    Refused,
    /// Nothing was heard in time.
    Late,
}

/// The world's time, as a clock.
pub struct SimClock(pub World);

impl Clock for SimClock {
    fn wall(&self) -> Timestamp {
        Timestamp(self.0.now().as_nanos() as i64)
    }

    fn boottime(&self) -> Duration {
        self.0.now()
    }
}

impl Hub {
    pub fn new(world: World, root: PathBuf, weather: Weather, lie: Option<Lie>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            ledger: Ledger::default(),
            lie,
            root,
            this: Weak::clone(this),
            inside: Mutex::new(Inside {
                slots: BTreeMap::new(),
                lives: BTreeMap::new(),
                running: BTreeMap::new(),
                cut: BTreeSet::new(),
                held: BTreeSet::new(),
                retired: BTreeSet::new(),
                next_life: 1,
                weather,
                files: 0,
            }),
            world,
        })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn this(&self) -> Arc<Self> {
        self.this.upgrade().expect("the world holds it while it runs")
    }

    /// Starts a server's process; one that runs is left alone.
    pub fn start(&self, server: u64) {
        let hub = self.this();
        let mut inside = self.inside();
        if inside.lives.contains_key(&server) || inside.retired.contains(&server) {
            return;
        }
        inside.held.remove(&server);
        let group = inside.next_life;
        inside.next_life += 1;
        let dir = self.root.join(server.to_string());
        let slot =
            inside.slots.entry(server).or_insert_with(|| Slot { dir, platter: Arc::default() }).clone();
        let mourner = self.this.clone();
        let died = move |server| mourner.upgrade().into_iter().for_each(|hub| hub.mourn(server));
        let life = Life::begin(self.world.clone(), server, group, Box::new(died));
        inside.lives.insert(server, Arc::clone(&life));
        drop(inside);
        self.world.tell(|| format!("server {server} starts"));
        self.world.spawn_in(group, async move {
            if let Err(error) = server::run(&hub, &life, slot).await {
                let gone = life.is_over();
                assert!(gone, "server {server} does not start: {error:?}");
            }
        });
    }

    /// A server has died: it comes back after a while.
    fn mourn(&self, server: u64) {
        let mut inside = self.inside();
        inside.lives.remove(&server);
        let gone = inside.running.remove(&server);
        drop(inside);
        drop(gone);
        let pause = self.world.roll(|dice| match dice.below(10) {
            0..6 => dice.micros(1_000, 50_000),
            6..9 => dice.micros(50_000, 2_000_000),
            _ => dice.micros(2_000_000, 8_000_000),
        });
        let hub = self.this();
        self.world.spawn_in(0, async move {
            sleep(pause).await;
            if !hub.inside().held.contains(&server) {
                hub.start(server);
            }
        });
    }

    /// Kills a server, which stays away until [`Hub::start`].
    pub fn hold(&self, server: u64) {
        let life = {
            let mut inside = self.inside();
            inside.held.insert(server);
            inside.lives.get(&server).cloned()
        };
        life.into_iter().for_each(|life| life.die("and stays away"));
    }

    /// Kills a server for good.
    pub fn retire(&self, server: u64) {
        self.inside().retired.insert(server);
        self.hold(server);
    }

    /// The lives that are not over.
    pub fn lives(&self) -> Vec<Arc<Life>> {
        self.inside().lives.values().cloned().collect()
    }

    /// The server answers from now on.
    pub fn answers(&self, server: u64, running: Running) {
        self.inside().running.insert(server, running);
    }

    pub fn running(&self, server: u64) -> Option<Running> {
        self.inside().running.get(&server).cloned()
    }

    /// Every server that answers.
    pub fn all_running(&self) -> Vec<(u64, Running)> {
        self.inside().running.iter().map(|(server, running)| (*server, running.clone())).collect()
    }

    /// Every server that was ever started.
    pub fn known(&self) -> Vec<u64> {
        self.inside().slots.keys().copied().collect()
    }

    /// A new name for a file.
    pub fn number(&self) -> u64 {
        let mut inside = self.inside();
        inside.files += 1;
        inside.files
    }

    /// From now on nothing goes from the one to the other.
    pub fn cut(&self, from: u64, to: u64) {
        self.inside().cut.insert((from, to));
    }

    /// All cuts are mended.
    pub fn mend(&self) {
        self.inside().cut.clear();
    }

    /// The faults are over.
    pub fn calm(&self) {
        let mut inside = self.inside();
        inside.cut.clear();
        inside.weather = Weather { lost: 0, twice: 0, late: 0 };
    }

    /// The way of one message; false when it is lost.
    async fn travel(&self, from: u64, to: u64) -> bool {
        let weather = self.inside().weather;
        let (lost, time) = self.world.roll(|dice| {
            let lost = dice.percent(weather.lost);
            let late = dice.percent(weather.late);
            (lost, if late { dice.micros(1_000, 1_000_000) } else { dice.micros(50, 3_000) })
        });
        sleep(time).await;
        !lost && !self.inside().cut.contains(&(from, to))
    }

    /// Asks a server: `serve` runs in its process, and its answer comes back, if the network lets it.
    /// `from` 0 is a client.
    pub async fn ask<A, F>(
        &self,
        (from, to): (u64, u64),
        limit: Duration,
        serve: impl Fn(Running) -> F + Send + Sync + 'static,
    ) -> Result<A, Silence>
    where
        A: Send + 'static,
        F: Future<Output = A> + Send + 'static,
    {
        let serve = Arc::new(move |running| -> BoxFuture<'static, A> { Box::pin(serve(running)) });
        let (answer, answered) = oneshot::channel();
        let copies = self.world.roll(|dice| 1 + u64::from(dice.percent(self.inside().weather.twice)));
        if copies > 1 {
            let (hub, serve) = (self.this(), Arc::clone(&serve));
            self.world.spawn_in(0, async move { hub.deliver((from, to), None, &*serve).await });
        }
        let hub = self.this();
        self.world.spawn_in(0, async move { hub.deliver((from, to), Some(answer), &*serve).await });
        let waited = <super::runtime::Runtime as openraft::AsyncRuntime>::timeout(limit, answered).await;
        match waited {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Silence::Refused),
            Err(_) => Err(Silence::Late),
        }
    }

    async fn deliver<A: Send + 'static>(
        self: Arc<Self>,
        (from, to): (u64, u64),
        answer: Option<oneshot::Sender<A>>,
        serve: &(dyn Fn(Running) -> BoxFuture<'static, A> + Send + Sync),
    ) {
        if !self.travel(from, to).await {
            // Nobody is told.
            sleep(Duration::from_secs(3600)).await;
            return;
        }
        let Some(running) = self.running(to) else { return };
        let (hub, group) = (Arc::clone(&self), running.life.group);
        let served = serve(running);
        self.world.spawn_in(group, async move {
            let reply = served.await;
            let world = hub.world.clone();
            world.spawn_in(0, async move {
                if !hub.travel(to, from).await {
                    sleep(Duration::from_secs(3600)).await;
                }
                // Who asked may have given up.
                drop(answer.map(|answer| answer.send(reply)));
            });
        });
    }
}

/// A directory for a run, on a disk in memory where there is one.
pub fn directory() -> io::Result<tempfile::TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}
