//! Developer commands of CairnFS: `cargo xtask setup | test | demo`.
//!
//! Standard library only, so that it builds in seconds on a machine that has nothing yet.
//! One file a verb: `setup` (system packages, then `cxx` and `tools_venv`), `test`, `demo`. Below them
//! `workspace` (where things are), `freshness` (what cargo need not compile again), `step` (run, time,
//! report) and `libtest` (which test binaries there are and what they said). `itself` comes first: the
//! xtask of another clone may be what was started.

#![allow(clippy::disallowed_methods, reason = "developer tooling: it times steps by the real clock")]

mod args;
mod cxx;
mod demo;
mod freshness;
mod itself;
mod libtest;
mod setup;
mod step;
mod test;
mod tools_venv;
mod workspace;

use std::process::ExitCode;

use args::Command;
use workspace::Workspace;

/// The repository, if this xtask is its own.
fn workspace() -> Result<Workspace, String> {
    let workspace = Workspace::find()?;
    itself::be_of(&workspace)?;
    Ok(workspace)
}

fn main() -> ExitCode {
    let command = match args::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(message) => {
            eprintln!("xtask: {message}\n\n{}", args::HELP);
            return ExitCode::from(2);
        }
    };
    let outcome = match command {
        Command::Help => {
            println!("{}", args::HELP);
            Ok(())
        }
        Command::Setup => workspace().and_then(|workspace| setup::run(&workspace).map(drop)),
        Command::Test(options) => workspace().and_then(|workspace| test::run(&workspace, &options)),
        Command::Demo { directory } => {
            workspace().and_then(|workspace| demo::run(&workspace, directory.as_deref()))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
