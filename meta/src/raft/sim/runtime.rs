//! openraft's runtime in this crate's tests: the simulation's where a thread simulates, else tokio's.

use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Duration;

use cairn_types::{Random, SystemRandom};
#[allow(deprecated, reason = "its own crate is a dependency of openraft's, not of ours")]
use openraft::impls::TokioRuntime;
use openraft::{AsyncRuntime, OptionalSend};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::oneshot;

use super::executor::{self, World};

/// tokio, but for the simulation's thread.
pub struct Runtime(TokioRuntime);

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Runtime")
    }
}

/// A point in time: in a simulation the world's, else since the process began to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

/// When the process began to ask for the time.
fn origin() -> tokio::time::Instant {
    static ORIGIN: OnceLock<tokio::time::Instant> = OnceLock::new();
    *ORIGIN.get_or_init(|| tokio::time::Instant::now() - Duration::from_secs(1))
}

impl openraft::Instant for Instant {
    fn now() -> Self {
        Self(executor::current().map_or_else(|| origin().elapsed(), |world| world.now()))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0 + time)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, time: Duration) {
        self.0 += time;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(time))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, time: Duration) {
        self.0 = self.0.saturating_sub(time);
    }
}

/// Waits for a point in time.
pub enum Sleep {
    Tokio(Pin<Box<tokio::time::Sleep>>),
    Simulated { world: World, at: Duration, timer: Option<(Duration, u64)> },
}

impl Sleep {
    /// Waits until the time `at`.
    pub fn until(at: Duration) -> Self {
        match executor::current() {
            Some(world) => Self::Simulated { world, at, timer: None },
            None => Self::Tokio(Box::pin(tokio::time::sleep_until(origin() + at))),
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.get_mut() {
            Self::Tokio(sleep) => sleep.as_mut().poll(context),
            Self::Simulated { world, at, timer } => {
                timer.take().into_iter().for_each(|before| world.forget(before));
                if world.now() >= *at {
                    return Poll::Ready(());
                }
                *timer = Some(world.wake_at(*at, context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Self::Simulated { world, timer: Some(timer), .. } = self {
            world.forget(*timer);
        }
    }
}

/// It took too long.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the time is over")]
pub struct Late;

/// A future with a deadline.
pub struct Timeout<F> {
    future: Pin<Box<F>>,
    end: Sleep,
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Late>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Poll::Ready(value) = this.future.as_mut().poll(context) {
            return Poll::Ready(Ok(value));
        }
        Pin::new(&mut this.end).poll(context).map(|()| Err(Late))
    }
}

/// A task's end.
pub enum JoinHandle<T> {
    Tokio(tokio::task::JoinHandle<T>),
    Simulated(oneshot::Receiver<T>),
}

/// A task that did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(transparent)]
    Tokio(tokio::task::JoinError),
    #[error("the task was killed")]
    Killed,
}

impl<T: 'static> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Tokio(handle) => Pin::new(handle).poll(context).map_err(JoinError::Tokio),
            Self::Simulated(ended) => Pin::new(ended).poll(context).map_err(|_| JoinError::Killed),
        }
    }
}

impl AsyncRuntime for Runtime {
    type JoinError = JoinError;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = Instant;
    type TimeoutError = Late;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = StdRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        let Some(world) = executor::current() else {
            return JoinHandle::Tokio(tokio::spawn(future));
        };
        let (end, ended) = oneshot::channel();
        // Nobody may want to know.
        world.spawn(async move { drop(end.send(future.await)) });
        JoinHandle::Simulated(ended)
    }

    fn sleep(duration: Duration) -> Sleep {
        Self::sleep_until(<Instant as openraft::Instant>::now() + duration)
    }

    fn sleep_until(deadline: Instant) -> Sleep {
        Sleep::until(deadline.0)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Timeout<F> {
        Timeout { future: Box::pin(future), end: Self::sleep(duration) }
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Instant, future: F) -> Timeout<F> {
        Timeout { future: Box::pin(future), end: Self::sleep_until(deadline) }
    }

    fn is_panic(error: &JoinError) -> bool {
        matches!(error, JoinError::Tokio(error) if error.is_panic())
    }

    fn thread_rng() -> StdRng {
        let seed = executor::current()
            .map_or_else(|| SystemRandom.next_u64(), |world| world.roll(super::dice::Dice::word));
        StdRng::seed_from_u64(seed)
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}
