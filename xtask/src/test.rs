//! `cargo xtask test`: format, lints, every test; one summary line at the end.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::args::TestOptions;
use crate::freshness::Freshness;
use crate::libtest::{self, Binary, Counts};
use crate::setup;
use crate::step::{self, Steps};
use crate::tools_venv::Tools;
use crate::workspace::Workspace;

/// Everything a test binary is run with.
struct Session<'a> {
    workspace: &'a Workspace,
    options: &'a TestOptions,
    tools: Tools,
    freshness: Freshness,
    timeout: Duration,
}

/// Runs what was asked for. Every step is run even if an earlier one failed, as far as it can be.
///
/// # Errors
/// Names the steps that failed.
pub fn run(workspace: &Workspace, options: &TestOptions) -> Result<(), String> {
    let mut steps = Steps::new();
    let mut counts = Counts::default();
    let mut ready = None;
    steps.run("setup", || {
        ready = Some((setup::run(workspace)?, Freshness::new(workspace)?));
        Ok(())
    });
    if let Some((tools, freshness)) = ready {
        let session = Session { workspace, options, tools, freshness, timeout: timeout(options)? };
        session.run(&mut steps, &mut counts);
    }
    let finished = steps.finish();
    println!("{counts}");
    finished
}

impl Session<'_> {
    fn run(&self, steps: &mut Steps, counts: &mut Counts) {
        if self.options.filter.is_none() {
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
            return;
        }
        for binary in &binaries {
            self.run_binary(binary, None, steps, counts);
        }
        if self.options.filter.is_none() {
            steps.run("doc tests", || {
                let mut command = self.cargo();
                command.args(["test", "--release", "--workspace", "--doc"]);
                let mut run = || {
                    libtest::run(&mut command, self.timeout, counts).map_err(|failure| failure.to_string())
                };
                self.freshness.build(&mut run)
            });
        }
        self.soak(&binaries, steps, counts);
    }

    fn lint(&self, steps: &mut Steps) {
        steps.run("rustfmt", || step::run(self.cargo().args(["fmt", "--all", "--", "--check"])));
        steps.run("clippy", || {
            self.build(&["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"])
        });
    }

    /// Repeats the whole-cluster tests, each round with the next seed.
    fn soak(&self, binaries: &[Binary], steps: &mut Steps, counts: &mut Counts) {
        let first = first_seed();
        for round in 0..u64::from(self.options.soak) {
            let seed = first.wrapping_add(round);
            for binary in binaries.iter().filter(|b| b.is_cluster_test) {
                self.run_binary(binary, Some(seed), steps, counts);
            }
        }
    }

    /// Runs a test binary: one that starts clusters module by module, so that each is timed and
    /// bounded; any other, and what a filter chose, as a whole.
    fn run_binary(&self, binary: &Binary, seed: Option<u64>, steps: &mut Steps, counts: &mut Counts) {
        let whole = self.options.filter.is_some() || !binary.is_cluster_test;
        let modules = if whole { Vec::new() } else { libtest::modules(&binary.command()) };
        if modules.is_empty() {
            self.run_part(binary, self.options.filter.as_deref(), seed, steps, counts);
        }
        for module in &modules {
            self.run_part(binary, Some(module), seed, steps, counts);
        }
    }

    fn run_part(
        &self,
        binary: &Binary,
        part: Option<&str>,
        seed: Option<u64>,
        steps: &mut Steps,
        counts: &mut Counts,
    ) {
        let mut command = binary.command();
        self.tools.tell(&mut command);
        command.args(part);
        if self.options.filter.is_some() && !libtest::has_tests(&command) {
            return;
        }
        if self.options.long {
            command.env("CAIRN_LONG", "1");
        }
        let module = part.and_then(|part| part.strip_suffix("::"));
        let mut name = module.map_or(binary.name.clone(), |module| format!("{}/{module}", binary.name));
        if let Some(seed) = seed {
            command.env("CAIRN_SEED", seed.to_string());
            name = format!("{name}, seed {seed}");
        }
        steps.run(&name, || {
            libtest::run(&mut command, self.timeout, counts).map_err(|failure| {
                let test = failure.tests.first().map_or("NAME", String::as_str);
                match seed {
                    Some(seed) => {
                        format!("{failure}; repeat: CAIRN_SEED={seed} cargo xtask test --filter {test}")
                    }
                    None => failure.to_string(),
                }
            })
        });
    }

    /// Calls cargo to build, its output shown.
    fn build(&self, arguments: &[&str]) -> Result<(), String> {
        self.freshness.build(|| step::run(self.cargo().args(arguments)))
    }

    fn cargo(&self) -> std::process::Command {
        let mut command = self.workspace.cargo();
        self.tools.tell(&mut command);
        command
    }
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
