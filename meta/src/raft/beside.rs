//! Work that blocks, beside the tasks.

use tokio::sync::oneshot;

/// Runs `work` on a thread where it may block. It ends whether or not somebody waits for the answer;
/// an error says that it panicked.
///
/// In a simulation, which has one thread, it is a task among the others.
pub fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
    let (answer, answered) = oneshot::channel();
    // Who asked may have gone away.
    let run = move || drop(answer.send(work()));
    #[cfg(test)]
    if let Some(world) = super::sim::executor::current() {
        world.spawn(async move { run() });
        return answered;
    }
    tokio::task::spawn_blocking(run);
    answered
}
