//! Steps: run a command, time it, remember how it ended, report all of it at the end.

use std::process::{Child, Command, ExitStatus};
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
        eprintln!("── {name}");
        let started = Instant::now();
        let failure = work().err();
        let took = started.elapsed();
        match &failure {
            None => eprintln!("── {name}: ok, {:.1} s", took.as_secs_f64()),
            Some(why) => eprintln!("── {name}: FAILED, {:.1} s: {why}", took.as_secs_f64()),
        }
        let good = failure.is_none();
        self.outcomes.push(Outcome { name: name.to_owned(), took, failure });
        good
    }

    /// Prints every step with its time.
    ///
    /// # Errors
    /// Names the steps that failed, if any did.
    pub fn finish(&self) -> Result<(), String> {
        eprintln!();
        for outcome in &self.outcomes {
            let verdict = outcome.failure.as_deref().unwrap_or("ok");
            let seconds = outcome.took.as_secs_f64();
            eprintln!("{seconds:>9.1} s  {}: {verdict}", outcome.name);
        }
        let total = self.started.elapsed().as_secs_f64();
        let failed: Vec<&str> = self
            .outcomes
            .iter()
            .filter(|outcome| outcome.failure.is_some())
            .map(|outcome| outcome.name.as_str())
            .collect();
        if failed.is_empty() {
            eprintln!("{total:>9.1} s  in all");
            return Ok(());
        }
        Err(format!(
            "{} of {} steps failed after {total:.1} s: {}",
            failed.len(),
            self.outcomes.len(),
            failed.join(", ")
        ))
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
    fn a_command_that_does_not_end_is_killed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let failure = wait_within(&mut child, Duration::from_millis(100));
        assert!(failure.unwrap_err().contains("without an end"));
    }
}
