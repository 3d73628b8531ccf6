//! The command line: what was asked for, or what is wrong with it.

use std::path::PathBuf;

/// What `--help` prints.
pub const HELP: &str = "\
cargo xtask: developer commands of CairnFS

USAGE
    cargo xtask setup
        Makes this machine ready: checks for libclang, python3 with venv and pip, and a C++
        compiler (installs what is missing with apt-get when run as root, else prints the exact
        command and stops), then installs the test tools of tests/py/requirements.txt (SeaweedFS,
        moto, boto3; pinned by version and hash) under <target>/tools/. Safe to run again: what is
        there is left alone.

    cargo xtask test [--long] [--soak N [--minutes M]] [--filter TEXT]
        setup, rustfmt check, clippy (-D warnings), every test and doc test, in the one build
        profile. Whole-cluster tests run one at a time, the other test binaries two at a time, each
        with its output in one piece. Ends with a table of times and one summary line, and with a
        non-zero exit code if anything failed.

        --filter TEXT   only tests whose name contains TEXT; leaves out rustfmt, clippy and doc
                        tests: the quick loop while working on something
        --long          also the sweeps and soaks that tests leave out by default (CAIRN_LONG=1)
        --soak N        then repeat the whole-cluster tests, or all that --filter chose, N times,
                        each time with another seed; a failure is reported with the seed that
                        repeats it
        --minutes M     end the soak before the next test binary, or module of one, once it has gone
                        on for M minutes: no failure; the last line but one says how many rounds were
                        done

    cargo xtask demo [DIRECTORY]
        setup, build, then the demo: a cluster of 3 + 3 processes against a real S3 endpoint, put
        to work on DIRECTORY (default: this machine's own cargo registry sources), broken on
        purpose, and compared byte by byte. Ends by itself; non-zero on any mismatch.

    cargo xtask --help

ENVIRONMENT
    CARGO_TARGET_DIR    where everything is built (default: target/ in the repository). Clones may
                        share one: what is the same in them is compiled once. While one xtask
                        builds or tests there, another waits
    CAIRN_SEED          the seed that randomised tests start from (default: they choose one and
                        print it)
    CAIRN_TEST_TIMEOUT_S  a test binary that runs longer is killed and counts as failed
                        (default 600; with --long or --soak 3600)

    Tests and demo are told where the tools are by CAIRN_WEED, CAIRN_MOTO_SERVER, CAIRN_PYTHON;
    set one yourself to use another installation.

EXAMPLES
    cargo xtask test --filter fault_proxy
    CAIRN_SEED=42 cargo xtask test --filter leader_killed
    cargo xtask test --filter leader_killed --soak 1000 --minutes 30
    cargo xtask test --long --soak 20";

/// One parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Print [`HELP`].
    Help,
    /// Prepare the machine.
    Setup,
    /// Format check, lints, tests.
    Test(TestOptions),
    /// Build, then run the demo.
    Demo {
        /// The tree to work on; the demo chooses one if absent.
        directory: Option<PathBuf>,
    },
}

/// What `cargo xtask test` was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TestOptions {
    /// Also run sweeps and soaks.
    pub long: bool,
    /// How often to repeat the whole-cluster tests, or what the filter chose, after the normal run.
    pub soak: u32,
    /// After how many minutes the repeating ends, done or not.
    pub minutes: Option<u32>,
    /// Only tests whose name contains this.
    pub filter: Option<String>,
}

/// Parses the arguments after the program's name.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Command, String> {
    let Some(verb) = words.next() else {
        return Ok(Command::Help);
    };
    let rest: Vec<String> = words.collect();
    if rest.iter().any(|word| word == "--help" || word == "-h") {
        return Ok(Command::Help);
    }
    match verb.as_str() {
        "--help" | "-h" | "help" => Ok(Command::Help),
        "setup" => match rest.first() {
            None => Ok(Command::Setup),
            Some(word) => Err(format!("setup takes no argument, got '{word}'")),
        },
        "test" => parse_test(&rest).map(Command::Test),
        "demo" => match rest.as_slice() {
            [] => Ok(Command::Demo { directory: None }),
            [word] if word.starts_with('-') => Err(format!("unknown option '{word}' of demo")),
            [directory] => Ok(Command::Demo { directory: Some(directory.into()) }),
            _ => Err("demo takes one directory at most".to_owned()),
        },
        other => Err(format!("unknown command '{other}'")),
    }
}

fn parse_test(words: &[String]) -> Result<TestOptions, String> {
    let mut options = TestOptions::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (name, inline) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let mut value = || {
            inline.clone().or_else(|| words.next().cloned()).ok_or_else(|| format!("{name} needs a value"))
        };
        match name {
            "--long" => options.long = true,
            "--soak" => options.soak = number(name, &value()?)?,
            "--minutes" => options.minutes = Some(number(name, &value()?)?),
            "--filter" => options.filter = Some(value()?),
            other => return Err(format!("unknown option '{other}' of test")),
        }
    }
    if options.minutes.is_some() && options.soak == 0 {
        return Err("--minutes bounds a soak: say --soak N too".to_owned());
    }
    Ok(options)
}

fn number(name: &str, text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{name} needs a number, got '{text}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn test_options_are_read_in_both_spellings() {
        let filter = Some("rename".to_owned());
        let wanted = Command::Test(TestOptions { long: true, soak: 3, minutes: Some(30), filter });
        assert_eq!(parsed("test --long --soak 3 --minutes 30 --filter rename").as_ref(), Ok(&wanted));
        assert_eq!(parsed("test --filter=rename --minutes=30 --soak=3 --long"), Ok(wanted));
        assert_eq!(
            parsed("test --soak=2"),
            Ok(Command::Test(TestOptions { soak: 2, ..TestOptions::default() }))
        );
    }

    #[test]
    fn help_is_given_wherever_it_is_asked_for() {
        for line in ["", "--help", "help", "test --help", "demo -h"] {
            assert_eq!(parsed(line), Ok(Command::Help), "{line}");
        }
    }

    #[test]
    fn wrong_words_are_named() {
        for (line, word) in [
            ("tset", "tset"),
            ("test --sok 2", "--sok"),
            ("test --soak many", "many"),
            ("test --filter", "--filter"),
            ("test --minutes 5", "--soak"),
            ("test --soak 0 --minutes 5", "--soak"),
            ("test --soak 2 --minutes soon", "soon"),
            ("test --soak -1", "-1"),
            ("setup now", "now"),
            ("demo --fast", "--fast"),
        ] {
            let message = parsed(line).unwrap_err();
            assert!(message.contains(word), "{line}: {message}");
        }
    }
}
