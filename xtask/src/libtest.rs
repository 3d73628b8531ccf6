//! Test binaries: which there are, running one, what it said.
//!
//! They are run directly rather than by `cargo test`, so that those that start whole clusters can
//! be given one thread and every one can be timed, bounded and repeated.

use std::cmp::Reverse;
use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, PipeReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::step;

/// How many tests passed, failed and were left out.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Counts {
    /// Adds another binary's.
    pub fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// One test binary.
#[derive(Debug)]
pub struct Binary {
    /// Package directory and target, for people: `tests/style_rules`.
    pub name: String,
    /// Whether it may start clusters: one test at a time, repeated by a soak.
    pub is_cluster_test: bool,
    executable: PathBuf,
    package: PathBuf,
}

impl Binary {
    /// The command that runs it as cargo would: in its package's directory.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.current_dir(&self.package).env("CARGO_MANIFEST_DIR", &self.package);
        if self.is_cluster_test {
            command.arg("--test-threads=1");
        }
        command
    }
}

/// Why a test binary's run does not count as good.
#[derive(Debug)]
pub struct Failure {
    /// The names of the tests that failed, as far as the binary told.
    pub tests: Vec<String>,
    cause: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tests.as_slice() {
            [] => f.write_str(&self.cause),
            tests => write!(f, "{} ({})", tests.join(", "), self.cause),
        }
    }
}

/// Builds all test binaries and lists them: those that start clusters last, and of the others the
/// largest first, which take the longest, so that what runs beside them ends with them.
///
/// # Errors
/// When the build fails.
pub fn build(cargo: &mut Command, root: &Path) -> Result<Vec<Binary>, String> {
    cargo
        .args(["test", "--release", "--workspace", "--no-run"])
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped());
    let output =
        cargo.stderr(Stdio::inherit()).output().map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo ended with {}", output.status));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut binaries: Vec<Binary> =
        messages.lines().filter_map(|message| parse_artifact(message, root)).collect();
    binaries.sort_by_key(|binary| {
        let bytes = fs::metadata(&binary.executable).map_or(0, |metadata| metadata.len());
        let size = if binary.is_cluster_test { 0 } else { bytes };
        (binary.is_cluster_test, Reverse(size), binary.name.clone())
    });
    Ok(binaries)
}

/// Reads one of cargo's JSON messages; None unless it tells of a test binary.
fn parse_artifact(message: &str, root: &Path) -> Option<Binary> {
    if !message.contains(r#""reason":"compiler-artifact""#) {
        return None;
    }
    let (_, profile) = message.split_once(r#""profile":{"#)?;
    let (profile, _) = profile.split_once('}')?;
    if !profile.contains(r#""test":true"#) {
        return None;
    }
    let executable = PathBuf::from(json_string(message, "executable")?);
    let manifest = PathBuf::from(json_string(message, "manifest_path")?);
    let source = PathBuf::from(json_string(message, "src_path")?);
    let package = manifest.parent()?.to_path_buf();

    let directory = package.strip_prefix(root).unwrap_or(&package);
    let target = source.file_stem()?.to_string_lossy().into_owned();
    // tests/x.rs, or tests/x/main.rs, whose name is then x.
    let (mut target, mut home) = (target, source.parent()?);
    if target == "main" && home.parent()?.ends_with("tests") {
        target = home.file_name()?.to_string_lossy().into_owned();
        home = home.parent()?;
    }
    let is_integration = home == package.join("tests").as_path();
    let starts_clusters = [Path::new("tests"), Path::new("jepsen")].contains(&directory);
    let reads_sources = ["style_rules", "errors_table"].contains(&target.as_str());
    Some(Binary {
        name: format!("{}/{target}", directory.display()),
        is_cluster_test: is_integration && starts_clusters && !reads_sources,
        executable,
        package,
    })
}

/// The value of the first string field of this name. Enough for the paths in cargo's messages.
fn json_string(message: &str, field: &str) -> Option<String> {
    let (_, rest) = message.split_once(&format!(r#""{field}":""#))?;
    let mut value = String::new();
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => return Some(value),
            '\\' => value.push(characters.next()?),
            character => value.push(character),
        }
    }
}

/// The modules that hold a test binary's tests, each with `::` at its end; none when they lie at the
/// top.
pub fn modules(command: &Command) -> Vec<String> {
    let listed = list(command).unwrap_or_default();
    let tests = listed.lines().filter_map(|line| line.strip_suffix(": test"));
    let mut modules: Vec<String> =
        tests.filter_map(|test| test.split_once("::")).map(|(module, _)| format!("{module}::")).collect();
    modules.sort();
    modules.dedup();
    modules
}

fn list(command: &Command) -> Option<String> {
    let mut list = Command::new(command.get_program());
    list.args(command.get_args()).args(["--list", "--format=terse"]);
    let output = list.stderr(Stdio::null()).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a test binary, with these arguments, has any test to run.
pub fn has_tests(command: &Command) -> bool {
    // If it cannot say, running it will tell why.
    list(command).is_none_or(|tests| !tests.trim_ascii().is_empty())
}

/// Runs a test binary (or `cargo test --doc`), shows its output as it comes, adds its counts.
///
/// # Errors
/// A test failed, or the binary did not end well, or in time.
pub fn run(mut command: Command, limit: Duration, counts: &mut Counts) -> Result<(), Failure> {
    let (output, end) = io::pipe().map_err(|error| broken(&error))?;
    command.stdout(end);
    follow(command, output, io::stdout(), limit, counts)
}

/// The same, but puts all it says on either stream into `said`.
///
/// # Errors
/// As [`run`].
pub fn run_quietly(
    mut command: Command,
    limit: Duration,
    counts: &mut Counts,
    said: &mut Vec<u8>,
) -> Result<(), Failure> {
    let (output, end) = io::pipe().map_err(|error| broken(&error))?;
    command.stdout(end.try_clone().map_err(|error| broken(&error))?).stderr(end);
    let (sender, receiver) = mpsc::channel();
    let outcome = follow(command, output, Parts(sender), limit, counts);
    said.extend(receiver.try_iter().flatten());
    outcome
}

/// A writer whose other end can be emptied at any time.
struct Parts(mpsc::Sender<Vec<u8>>);

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Nobody listens any more once we gave up waiting.
        let _ = self.0.send(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn broken(error: &io::Error) -> Failure {
    Failure { tests: Vec::new(), cause: format!("cannot start: {error}") }
}

/// Runs a command whose output goes to the other end of `output`.
fn follow(
    mut command: Command,
    output: PipeReader,
    mut copy: impl Write + Send + 'static,
    limit: Duration,
    counts: &mut Counts,
) -> Result<(), Failure> {
    let mut child = command.spawn().map_err(|error| broken(&error))?;
    // Its ends of the pipe are open as long as it is there.
    drop(command);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // The receiver is gone only if we gave up waiting.
        let _ = sender.send(read_results(output, &mut copy));
    });
    let status = step::wait_within(&mut child, limit);
    // A process that outlives the test may hold the pipe open: do not wait for it for ever.
    let (seen, mut failed) = receiver.recv_timeout(Duration::from_secs(10)).unwrap_or_default();
    counts.add(&seen);
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            if seen.failed == 0 {
                counts.failed += 1;
            }
            failed.dedup();
            Err(Failure { tests: failed, cause: status.to_string() })
        }
        Err(cause) => {
            counts.failed += 1;
            Err(Failure { tests: failed, cause })
        }
    }
}

/// Copies a test binary's output and picks out its results and the names of failed tests.
fn read_results(output: impl Read, copy: &mut impl Write) -> (Counts, Vec<String>) {
    let mut counts = Counts::default();
    let mut failed = Vec::new();
    let mut lines = BufReader::new(output);
    let mut bytes = Vec::new();
    while matches!(lines.read_until(b'\n', &mut bytes), Ok(length) if length > 0) {
        // A closed stdout must not stop the tests.
        let _ = copy.write_all(&bytes);
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim_end();
        if let Some(results) = line.strip_prefix("test result: ") {
            counts.passed += number_before(results, " passed");
            counts.failed += number_before(results, " failed");
            counts.skipped += number_before(results, " ignored");
        } else if let Some(test) = line.strip_prefix("test ")
            && let Some((name, _)) = test.split_once(" ... ")
            && test.ends_with("FAILED")
        {
            failed.push(name.to_owned());
        }
        bytes.clear();
    }
    (counts, failed)
}

fn number_before(text: &str, word: &str) -> u64 {
    let before = text.split(word).next().unwrap_or_default();
    let digits = before.rsplit(' ').next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARTIFACT: &str = r#"{"reason":"compiler-artifact","package_id":"x","manifest_path":"/repo/tests/Cargo.toml","target":{"kind":["test"],"name":"fault_proxy","src_path":"/repo/tests/tests/fault_proxy.rs","test":true},"profile":{"opt_level":"3","test":true},"executable":"/t/release/deps/fault_proxy-1","fresh":true}"#;

    #[test]
    fn artifacts_that_are_test_binaries_are_found() {
        let binary = parse_artifact(ARTIFACT, Path::new("/repo")).unwrap();
        assert_eq!(binary.name, "tests/fault_proxy");
        assert!(binary.is_cluster_test);
        assert_eq!(binary.executable, Path::new("/t/release/deps/fault_proxy-1"));
        assert_eq!(binary.package, Path::new("/repo/tests"));

        let library = ARTIFACT.replace(r#""3","test":true"#, r#""3","test":false"#);
        assert!(parse_artifact(&library, Path::new("/repo")).is_none());
        let unit = ARTIFACT.replace("/repo/tests/tests/fault_proxy.rs", "/repo/tests/src/lib.rs");
        assert!(!parse_artifact(&unit, Path::new("/repo")).unwrap().is_cluster_test);
        let style = ARTIFACT.replace("fault_proxy.rs", "style_rules.rs");
        assert!(!parse_artifact(&style, Path::new("/repo")).unwrap().is_cluster_test);
        let directory = ARTIFACT.replace("tests/fault_proxy.rs", "tests/cluster/main.rs");
        let binary = parse_artifact(&directory, Path::new("/repo")).unwrap();
        assert_eq!((binary.name.as_str(), binary.is_cluster_test), ("tests/cluster", true));
    }

    #[test]
    fn results_are_counted_and_failures_named() {
        let output = "test a::b ... ok\ntest c ... FAILED\ntest d ... ignored\n\n\
            test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 7 filtered out\n\
            test result: ok. 10 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let mut copy = Vec::new();
        let (counts, failed) = read_results(output.as_bytes(), &mut copy);
        assert_eq!(counts.to_string(), "11 passed, 1 failed, 1 skipped");
        assert_eq!(failed, ["c"]);
        assert_eq!(copy, output.as_bytes());
    }

    #[test]
    fn a_binary_that_dies_without_a_result_counts_as_one_failure() {
        let mut counts = Counts::default();
        let failure = run(Command::new("false"), Duration::from_secs(10), &mut counts);
        assert!(failure.unwrap_err().to_string().contains("exit status: 1"));
        assert_eq!(counts.failed, 1);
    }

    #[test]
    fn all_that_a_binary_says_is_kept_in_its_order_even_if_it_is_killed() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo test a ... FAILED; echo why >&2; echo at last; exec sleep 60"]);
        let (mut counts, mut said) = (Counts::default(), Vec::new());
        let failure = run_quietly(command, Duration::from_millis(500), &mut counts, &mut said).unwrap_err();
        assert_eq!(String::from_utf8(said).unwrap(), "test a ... FAILED\nwhy\nat last\n");
        assert_eq!((failure.tests, counts.failed), (vec!["a".to_owned()], 1));
    }
}
