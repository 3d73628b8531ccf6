//! `cargo xtask test`: format, lints, every test; one summary line at the end.

use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::args::TestOptions;
use crate::freshness::Freshness;
use crate::libtest::{self, Binary, Counts};
use crate::setup;
use crate::step::{self, Steps};
use crate::tools_venv::Tools;
use crate::workspace::Workspace;

/// How many test binaries run at once, of those that start no clusters.
const AT_ONCE_MAX: usize = 2;

/// Everything a test binary is run with.
struct Session<'a> {
    workspace: &'a Workspace,
    options: &'a TestOptions,
    tools: Tools,
    freshness: Freshness,
    timeout: Duration,
}

/// One call of a test binary.
struct Part<'a> {
    binary: &'a Binary,
    /// Only tests whose name contains this.
    filter: Option<String>,
}

/// Runs what was asked for. Every step is run even if an earlier one failed, as far as it can be.
///
/// # Errors
/// Names the steps that failed.
pub fn run(workspace: &Workspace, options: &TestOptions) -> Result<(), String> {
    let timeout = timeout(options)?;
    let mut steps = Steps::new();
    let mut counts = Counts::default();
    let mut ready = None;
    let mut soaked = None;
    steps.run("setup", || {
        ready = Some((setup::run(workspace)?, Freshness::new(workspace)?));
        Ok(())
    });
    if let Some((tools, freshness)) = ready {
        let session = Session { workspace, options, tools, freshness, timeout };
        soaked = session.run(&mut steps, &mut counts);
    }
    let finished = steps.finish();
    if let Some(soaked) = soaked {
        println!("{soaked}");
    }
    println!("{counts}");
    finished
}

impl Session<'_> {
    /// What became of the soak, if there was one.
    fn run(&self, steps: &mut Steps, counts: &mut Counts) -> Option<String> {
        let is_filtered = self.options.filter.is_some();
        if !is_filtered {
            self.lint(steps);
        }
        let mut binaries = Vec::new();
        let built = steps.run("build", || {
            // The first builds the programs that tests start too, the second tells which tests there are.
            self.build(&["build", "--release", "--workspace", "--all-targets"])?;
            binaries = self.freshness.build(|| libtest::build(&mut self.cargo(), &self.workspace.root))?;
            Ok(())
        });
        if !built {
            return None;
        }
        let parts: Vec<Part> = binaries.iter().flat_map(|binary| self.parts(binary)).collect();
        self.run_beside(parts.iter().filter(|part| !part.binary.is_cluster_test), steps, counts);
        for part in parts.iter().filter(|part| part.binary.is_cluster_test) {
            self.run_part(part, None, steps, counts);
        }
        if !is_filtered {
            steps.run("doc tests", || {
                let mut command = self.cargo();
                command.args(["test", "--release", "--workspace", "--doc"]);
                let run =
                    || libtest::run(command, self.timeout, counts).map_err(|failure| failure.to_string());
                self.freshness.build(run)
            });
        }
        let repeated: Vec<&Part> =
            parts.iter().filter(|part| is_filtered || part.binary.is_cluster_test).collect();
        (self.options.soak > 0).then(|| self.soak(&repeated, steps, counts))
    }

    fn lint(&self, steps: &mut Steps) {
        steps.run("rustfmt", || step::run(self.cargo().args(["fmt", "--all", "--", "--check"])));
        steps.run("clippy", || {
            self.build(&["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"])
        });
    }

    /// The calls that make up a test binary: one that starts clusters module by module, so that each is
    /// timed and bounded; any other, and what a filter chose, as a whole; none if a filter leaves none.
    fn parts<'a>(&self, binary: &'a Binary) -> Vec<Part<'a>> {
        let whole = Part { binary, filter: self.options.filter.clone() };
        if whole.filter.is_some() {
            let has_tests = libtest::has_tests(&self.command(&whole, None));
            return if has_tests { vec![whole] } else { Vec::new() };
        }
        let modules = if binary.is_cluster_test { libtest::modules(&binary.command()) } else { Vec::new() };
        if modules.is_empty() {
            return vec![whole];
        }
        modules.into_iter().map(|module| Part { binary, filter: Some(module) }).collect()
    }

    fn command(&self, part: &Part, seed: Option<u64>) -> Command {
        let mut command = part.binary.command();
        self.tools.tell(&mut command);
        command.args(&part.filter);
        if self.options.long {
            command.env("CAIRN_LONG", "1");
        }
        if let Some(seed) = seed {
            command.env("CAIRN_SEED", seed.to_string());
        }
        command
    }

    /// Runs test binaries that start no clusters, more than one at once where there are cores for it.
    fn run_beside<'a>(
        &self,
        parts: impl Iterator<Item = &'a Part<'a>>,
        steps: &mut Steps,
        counts: &mut Counts,
    ) {
        // Guards that every binary's counts are added.
        let sum = Mutex::new(counts);
        let job = |part: &Part| {
            let (command, sum) = (self.command(part, None), &sum);
            let work = move |said: &mut Vec<u8>| {
                let mut counts = Counts::default();
                let outcome = libtest::run_quietly(command, self.timeout, &mut counts, said);
                sum.lock().unwrap_or_else(PoisonError::into_inner).add(&counts);
                outcome.map_err(|failure| failure.to_string())
            };
            (part.name(), work)
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        steps.run_beside(cores.min(AT_ONCE_MAX), parts.map(job).collect());
    }

    fn run_part(&self, part: &Part, seed: Option<u64>, steps: &mut Steps, counts: &mut Counts) {
        let name = seed.map_or(part.name(), |seed| format!("{}, seed {seed}", part.name()));
        let work = || {
            libtest::run(self.command(part, seed), self.timeout, counts).map_err(|failure| {
                let test = failure.tests.first().map_or("NAME", String::as_str);
                match seed {
                    Some(seed) => {
                        format!("{failure}; repeat: CAIRN_SEED={seed} cargo xtask test --filter {test}")
                    }
                    None => failure.to_string(),
                }
            })
        };
        if part.binary.is_cluster_test {
            steps.run_cluster_test(&name, work);
        } else {
            steps.run(&name, work);
        }
    }

    /// Repeats these, each round with the next seed; says how far it came.
    fn soak(&self, parts: &[&Part], steps: &mut Steps, counts: &mut Counts) -> String {
        let TestOptions { soak: rounds, minutes, .. } = *self.options;
        if parts.is_empty() {
            steps.run("soak", || Err("no test is chosen".to_owned()));
            return "soak: there was nothing to repeat".to_owned();
        }
        let (first, started) = (first_seed(), Instant::now());
        let is_over = || {
            minutes.is_some_and(|minutes| started.elapsed() >= Duration::from_secs(60 * u64::from(minutes)))
        };
        let done = repeat(rounds, parts, is_over, |part, round| {
            self.run_part(part, Some(first.wrapping_add(u64::from(round))), steps, counts);
        });
        match minutes {
            Some(minutes) if done < rounds => {
                format!("soak: {done} of {rounds} rounds done when {minutes} minutes were over")
            }
            _ => format!("soak: all {rounds} rounds done"),
        }
    }

    /// Calls cargo to build, its output shown.
    fn build(&self, arguments: &[&str]) -> Result<(), String> {
        self.freshness.build(|| step::run(self.cargo().args(arguments)))
    }

    fn cargo(&self) -> Command {
        let mut command = self.workspace.cargo();
        self.tools.tell(&mut command);
        command
    }
}

impl Part<'_> {
    /// For people: the binary, and its module if this is one alone.
    fn name(&self) -> String {
        let module = self.filter.as_ref().and_then(|filter| filter.strip_suffix("::"));
        module.map_or(self.binary.name.clone(), |module| format!("{}/{module}", self.binary.name))
    }
}

/// Runs every part once a round, until the time is over; how many whole rounds that were.
fn repeat<P>(rounds: u32, parts: &[P], is_over: impl Fn() -> bool, mut run: impl FnMut(&P, u32)) -> u32 {
    for round in 0..rounds {
        for part in parts {
            if is_over() {
                return round;
            }
            run(part, round);
        }
    }
    rounds
}

/// How long one test binary may run.
fn timeout(options: &TestOptions) -> Result<Duration, String> {
    let default = if options.long || options.soak > 0 { 3600 } else { 600 };
    match std::env::var("CAIRN_TEST_TIMEOUT_S") {
        Err(_) => Ok(Duration::from_secs(default)),
        Ok(text) => text
            .parse()
            .map(Duration::from_secs)
            .map_err(|_| format!("CAIRN_TEST_TIMEOUT_S needs a number of seconds, got '{text}'")),
    }
}

/// The seed of the first soak round: CAIRN_SEED, else the time.
fn first_seed() -> u64 {
    let named = std::env::var("CAIRN_SEED").ok();
    named.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(1, |since| since.as_secs())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// What runs in a soak of three rounds of two parts whose time is over after so many runs.
    fn soaked(runs_max: usize) -> (u32, Vec<(char, u32)>) {
        let ran = RefCell::new(Vec::new());
        let is_over = || ran.borrow().len() >= runs_max;
        let done = repeat(3, &['a', 'b'], is_over, |part, round| ran.borrow_mut().push((*part, round)));
        (done, ran.into_inner())
    }

    #[test]
    fn a_soak_does_all_its_rounds_if_it_has_the_time() {
        let all = vec![('a', 0), ('b', 0), ('a', 1), ('b', 1), ('a', 2), ('b', 2)];
        assert_eq!(soaked(usize::MAX), (3, all.clone()));
        assert_eq!(soaked(6), (3, all));
    }

    #[test]
    fn a_soak_whose_time_is_over_counts_whole_rounds() {
        assert_eq!(soaked(0), (0, vec![]));
        assert_eq!(soaked(2), (1, vec![('a', 0), ('b', 0)]));
        assert_eq!(soaked(3), (1, vec![('a', 0), ('b', 0), ('a', 1)]));
    }
}
