//! One thread, its own clock, one seed: the tasks of a whole cluster, in an order that the seed gives.
//!
//! Time stands still while a task can go on, then jumps to the next timer. Of the tasks that can go
//! on a random one does. Tasks belong to a *group*, a server's life: [`World::kill`] drops all of a
//! group at once, wherever they are, as the end of a process does.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::dice::Dice;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Which tasks live and die together; 0 is what never dies.
pub type Group = u64;

/// Polls in one run, at most: a run that needs more goes round in circles.
const POLLS_MAX: u64 = 40_000_000;

thread_local! {
    static CURRENT: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// The world that this thread simulates, if it does.
pub fn current() -> Option<World> {
    CURRENT.with_borrow(Clone::clone)
}

/// The world. Cheap to clone.
#[derive(Clone)]
pub struct World {
    // Guards nothing across calls: one thread runs, and tasks are polled without it.
    inside: Arc<Mutex<Inside>>,
    ready: Arc<Ready>,
}

struct Inside {
    now: Duration,
    next: u64,
    /// `None` while it is polled.
    tasks: BTreeMap<u64, (Group, Option<Task>)>,
    timers: BTreeMap<(Duration, u64), Waker>,
    group: Group,
    dice: Dice,
    trace: u64,
    polls: u64,
    story: Vec<String>,
}

/// Tasks that can go on. A set, since the order in which tokio's channels wake those who wait is not the
/// same each time.
#[derive(Default)]
struct Ready(Mutex<BTreeSet<u64>>);

struct Awake {
    task: u64,
    ready: Arc<Ready>,
}

impl Wake for Awake {
    fn wake(self: Arc<Self>) {
        self.ready.0.lock().unwrap_or_else(PoisonError::into_inner).insert(self.task);
    }
}

/// Makes the thread forget the world, also when the run panics.
struct Entered;

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.with_borrow_mut(Option::take);
    }
}

impl World {
    /// A world whose every choice comes from `seed`.
    pub fn new(seed: u64) -> Self {
        let inside = Inside {
            now: Duration::from_secs(1000),
            next: 1,
            tasks: BTreeMap::new(),
            timers: BTreeMap::new(),
            group: 0,
            dice: Dice::new(seed),
            trace: 0xcbf2_9ce4_8422_2325,
            polls: 0,
            story: Vec::new(),
        };
        Self { inside: Arc::new(Mutex::new(inside)), ready: Arc::default() }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time since the world began, and a thousand seconds more.
    pub fn now(&self) -> Duration {
        self.inside().now
    }

    /// The group of the task that runs.
    pub fn group(&self) -> Group {
        self.inside().group
    }

    /// Rolls the world's dice.
    pub fn roll<T>(&self, roll: impl FnOnce(&mut Dice) -> T) -> T {
        roll(&mut self.inside().dice)
    }

    /// Writes down what happened; it is part of [`World::trace`].
    pub fn tell(&self, what: impl FnOnce() -> String) {
        let mut inside = self.inside();
        let line = format!("{:>9.3} {}", inside.now.as_secs_f64() - 1000.0, what());
        line.bytes().for_each(|byte| inside.fold(u64::from(byte)));
        inside.story.push(line);
    }

    /// What happened.
    pub fn story(&self) -> Vec<String> {
        self.inside().story.clone()
    }

    /// A hash of which task went on when, and of all that was told.
    pub fn trace(&self) -> u64 {
        self.inside().trace
    }

    /// A task of the group that runs.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let group = self.group();
        self.spawn_in(group, future);
    }

    /// A task of `group`.
    pub fn spawn_in(&self, group: Group, future: impl Future<Output = ()> + Send + 'static) {
        let mut inside = self.inside();
        let task = inside.take_number();
        inside.tasks.insert(task, (group, Some(Box::pin(future))));
        drop(inside);
        self.wake(task);
    }

    fn wake(&self, task: u64) {
        Arc::new(Awake { task, ready: Arc::clone(&self.ready) }).wake();
    }

    /// Drops all tasks of `group`; the one that runs is dropped when it next pauses.
    pub fn kill(&self, group: Group) {
        let mut inside = self.inside();
        let doomed: Vec<u64> =
            inside.tasks.iter().filter(|(_, (of, _))| *of == group).map(|(task, _)| *task).collect();
        let dropped: Vec<_> = doomed.iter().filter_map(|task| inside.tasks.remove(task)).collect();
        drop(inside);
        // What they hold may use the world while it goes.
        drop(dropped);
    }

    /// Wakes `waker` at `at`. Answers the timer's name.
    pub fn wake_at(&self, at: Duration, waker: Waker) -> (Duration, u64) {
        let mut inside = self.inside();
        let timer = (at, inside.take_number());
        inside.timers.insert(timer, waker);
        timer
    }

    /// The timer is no longer wanted.
    pub fn forget(&self, timer: (Duration, u64)) {
        let gone = self.inside().timers.remove(&timer);
        drop(gone);
    }

    /// Runs until `main` has ended; everything else is dropped then.
    pub fn run<T: Send + 'static>(&self, main: impl Future<Output = T> + Send + 'static) -> T {
        CURRENT.with_borrow_mut(|current| {
            assert!(current.is_none(), "a world inside a world");
            *current = Some(self.clone());
        });
        let _entered = Entered;
        let result = Arc::new(Mutex::new(None));
        let ended = Arc::clone(&result);
        self.spawn_in(0, async move {
            let value = main.await;
            *ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        });
        loop {
            while let Some(task) = self.next_ready() {
                self.poll(task);
                if let Some(value) = result.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    self.end();
                    return value;
                }
            }
            self.advance();
        }
    }

    fn end(&self) {
        let mut inside = self.inside();
        let (tasks, timers) = (std::mem::take(&mut inside.tasks), std::mem::take(&mut inside.timers));
        drop(inside);
        drop((tasks, timers));
    }

    fn next_ready(&self) -> Option<u64> {
        let mut ready = self.ready.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.is_empty() {
            return None;
        }
        let nth = self.roll(|dice| dice.below(ready.len() as u64)) as usize;
        let task = ready.iter().nth(nth).copied()?;
        ready.remove(&task);
        Some(task)
    }

    fn poll(&self, task: u64) {
        let mut inside = self.inside();
        let Some((group, future)) = inside.tasks.get_mut(&task) else { return };
        let (group, Some(mut future)) = (*group, future.take()) else { return };
        inside.group = group;
        inside.polls += 1;
        assert!(inside.polls < POLLS_MAX, "no end in sight");
        let now = inside.now.as_nanos() as u64;
        inside.fold(task);
        inside.fold(now);
        drop(inside);
        let waker = Waker::from(Arc::new(Awake { task, ready: Arc::clone(&self.ready) }));
        let polled =
            catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
        let mut inside = self.inside();
        inside.group = 0;
        let alive = inside.tasks.contains_key(&task);
        match polled {
            Ok(Poll::Pending) if alive => {
                if let Some((_, place)) = inside.tasks.get_mut(&task) {
                    *place = Some(future);
                }
            }
            Ok(_) => {
                let gone = inside.tasks.remove(&task);
                drop(inside);
                drop((gone, future));
            }
            // A process that is killed does not panic any more.
            Err(_) if !alive => drop(inside),
            Err(panic) => {
                drop(inside);
                resume_unwind(panic);
            }
        }
    }

    /// Time goes on to the next timer.
    fn advance(&self) {
        let mut inside = self.inside();
        let Some(((at, _), waker)) = inside.timers.pop_first() else {
            panic!("nothing will ever happen again");
        };
        inside.now = inside.now.max(at);
        drop(inside);
        waker.wake();
    }
}

impl Inside {
    fn take_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// FNV-1a.
    fn fold(&mut self, word: u64) {
        self.trace = (self.trace ^ word).wrapping_mul(0x0100_0000_01b3);
    }
}

/// Waits for `time`.
pub async fn sleep(time: Duration) {
    let world = current().expect("only in a simulation");
    let at = world.now() + time;
    super::runtime::Sleep::until(at).await;
}
