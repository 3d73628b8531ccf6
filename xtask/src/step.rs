//! Steps: run a command, time it, remember how it ended, report all of it at the end.

use std::io::{self, Write};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How one step ended.
#[derive(Debug)]
pub struct Outcome {
    /// What was done.
    pub name: String,
    /// How long it took.
    pub took: Duration,
    /// None if it went well, else why not.
    pub failure: Option<String>,
    is_cluster_test: bool,
}

/// The steps of one run, in order.
#[derive(Debug)]
pub struct Steps {
    started: Instant,
    outcomes: Vec<Outcome>,
}

impl Steps {
    /// Starts the clock.
    pub fn new() -> Self {
        Self { started: Instant::now(), outcomes: Vec::new() }
    }

    /// Runs `work` as the step `name`; true if it went well.
    pub fn run(&mut self, name: &str, work: impl FnOnce() -> Result<(), String>) -> bool {
        self.run_as(name, false, work)
    }

    /// The same, for a test of whole clusters: the summary tells what these took together.
    pub fn run_cluster_test(&mut self, name: &str, work: impl FnOnce() -> Result<(), String>) -> bool {
        self.run_as(name, true, work)
    }

    fn run_as(
        &mut self,
        name: &str,
        is_cluster_test: bool,
        work: impl FnOnce() -> Result<(), String>,
    ) -> bool {
        eprintln!("── {name}");
        let started = Instant::now();
        let failure = work().err();
        self.end(Outcome { name: name.to_owned(), took: started.elapsed(), failure, is_cluster_test })
    }

    /// Runs steps in their order, so many at once. What each writes is shown when it has ended.
    pub fn run_beside<W>(&mut self, at_once: usize, jobs: Vec<(String, W)>)
    where
        W: FnOnce(&mut Vec<u8>) -> Result<(), String> + Send,
    {
        // Guards that each job is taken once.
        let jobs = Mutex::new(jobs.into_iter());
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..at_once {
                let (jobs, sender) = (&jobs, sender.clone());
                scope.spawn(move || {
                    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
                    while let Some((name, work)) = next() {
                        eprintln!("── {name}: started");
                        let (started, mut said) = (Instant::now(), Vec::new());
                        let failure = work(&mut said).err();
                        // The receiver outlives us.
                        let took = started.elapsed();
                        let _ = sender.send((said, Outcome { name, took, failure, is_cluster_test: false }));
                    }
                });
            }
            drop(sender);
            for (said, outcome) in receiver {
                eprintln!("── {}", outcome.name);
                // A closed stdout must not stop the tests.
                let mut stdout = io::stdout();
                let _ = stdout.write_all(&said).and_then(|()| stdout.flush());
                self.end(outcome);
            }
        });
    }

    /// Tells how a step ended, and keeps it for the summary.
    fn end(&mut self, outcome: Outcome) -> bool {
        let (name, seconds) = (&outcome.name, outcome.took.as_secs_f64());
        match &outcome.failure {
            None => eprintln!("── {name}: ok, {seconds:.1} s"),
            Some(why) => eprintln!("── {name}: FAILED, {seconds:.1} s: {why}"),
        }
        let good = outcome.failure.is_none();
        self.outcomes.push(outcome);
        good
    }

    /// Prints every step with its time.
    ///
    /// # Errors
    /// Names the steps that failed, if any did.
    pub fn finish(&self) -> Result<(), String> {
        let total = self.started.elapsed();
        eprintln!("\n{}", self.summary(total));
        let failed: Vec<&str> = self
            .outcomes
            .iter()
            .filter(|outcome| outcome.failure.is_some())
            .map(|outcome| outcome.name.as_str())
            .collect();
        if failed.is_empty() {
            return Ok(());
        }
        Err(format!(
            "{} of {} steps failed after {:.1} s: {}",
            failed.len(),
            self.outcomes.len(),
            total.as_secs_f64(),
            failed.join(", ")
        ))
    }

    /// A line a step, then the sums.
    fn summary(&self, total: Duration) -> String {
        let line = |took: Duration, what: &str| format!("{:>9.1} s  {what}", took.as_secs_f64());
        let mut lines: Vec<String> = Vec::new();
        for outcome in &self.outcomes {
            let verdict = outcome.failure.as_deref().unwrap_or("ok");
            lines.push(line(outcome.took, &format!("{}: {verdict}", outcome.name)));
        }
        lines.push(line(total, "in all"));
        let clusters: Duration = self.outcomes.iter().filter(|o| o.is_cluster_test).map(|o| o.took).sum();
        if !clusters.is_zero() {
            lines.push(line(clusters, "of these for whole-cluster tests"));
        }
        lines.join("\n")
    }
}

/// Runs a command to its end, its output shown.
///
/// # Errors
/// When it cannot be started or ends with another status than 0.
pub fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("cannot start {}: {error}", program(command)))?;
    check(command, status)
}

fn check(command: &Command, status: ExitStatus) -> Result<(), String> {
    if status.success() {
        return Ok(());
    }
    Err(format!("{} ended with {status}", program(command)))
}

/// The last part of a command's path, for messages.
fn program(command: &Command) -> String {
    let path = std::path::Path::new(command.get_program());
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Waits for a child's end; kills it when `limit` has passed.
///
/// # Errors
/// When waiting fails or the limit passed.
pub fn wait_within(child: &mut Child, limit: Duration) -> Result<ExitStatus, String> {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => return Ok(status),
            None if Instant::now() >= deadline => {
                // Servers that a test started die with it: they ask the kernel for that.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("killed after {} s without an end", limit.as_secs()));
            }
            None => thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_fails_its_step_and_the_run() {
        let mut steps = Steps::new();
        assert!(steps.run("good", || run(&mut Command::new("true"))));
        assert!(steps.finish().is_ok());
        assert!(!steps.run("bad", || run(&mut Command::new("false"))));
        let message = steps.finish().unwrap_err();
        assert!(message.contains("1 of 2 steps failed"), "{message}");
        assert!(message.contains("bad"), "{message}");
    }

    #[test]
    fn the_summary_adds_up() {
        let mut steps = Steps::new();
        for (name, seconds, failure) in [("unit", 2, None), ("x/a", 30, None), ("x/b", 10, Some("broken"))] {
            steps.end(Outcome {
                name: name.to_owned(),
                took: Duration::from_secs(seconds),
                failure: failure.map(str::to_owned),
                is_cluster_test: name.starts_with('x'),
            });
        }
        let wanted = [
            "      2.0 s  unit: ok",
            "     30.0 s  x/a: ok",
            "     10.0 s  x/b: broken",
            "     50.0 s  in all",
            "     40.0 s  of these for whole-cluster tests",
        ];
        assert_eq!(steps.summary(Duration::from_secs(50)), wanted.join("\n"));
    }

    #[test]
    fn so_many_steps_run_at_once_and_each_is_reported() {
        use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |number: u32| {
            let (running, most) = (&running, &most);
            move |_said: &mut Vec<u8>| {
                most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                // Long enough that the other worker takes its own.
                thread::sleep(Duration::from_millis(100));
                running.fetch_sub(1, SeqCst);
                if number == 3 { Err("no".to_owned()) } else { Ok(()) }
            }
        };
        let mut steps = Steps::new();
        steps.run_beside(2, (0..5).map(|number| (format!("job {number}"), work(number))).collect());
        assert_eq!(most.load(SeqCst), 2);
        assert_eq!(steps.outcomes.len(), 5);
        let message = steps.finish().unwrap_err();
        assert!(message.starts_with("1 of 5 steps failed") && message.ends_with("job 3"), "{message}");
    }

    #[test]
    fn a_command_that_does_not_end_is_killed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let failure = wait_within(&mut child, Duration::from_millis(100));
        assert!(failure.unwrap_err().contains("without an end"));
    }
}
