//! `cairn-demo [DIR]`: the main job of CairnFS on real processes, from an empty cluster to a verified one.
//!
//! One file an act: `start` (servers), `tree` (what is put in), `copy` (put, list, compare), `rename`, `wal`
//! (appends while servers are killed), `packs` (what is in the bucket), `landing` (a bucket that others filled),
//! `revive`. `stage` is all of it together; `say` talks to the person, `report` keeps the numbers.
//!
//! Exit code: 0 when everything was as it should be, 1 when something could not be done, 2 for a wrong
//! argument, 4 when what came back differs from what was written.

#![allow(clippy::disallowed_methods, reason = "measures real processes in real time")]

mod copy;
mod error;
mod landing;
mod packs;
mod remote;
mod rename;
mod report;
mod revive;
mod say;
mod stage;
mod start;
mod ticking;
mod tree;
mod wal;

use std::path::PathBuf;
use std::process::ExitCode;

use error::DemoError;
use report::Report;
use stage::Stage;
use tree::Tree;

const USAGE: &str = "usage: cairn-demo [DIR]\n\n\
    Puts DIR (default: some crates of cargo's registry) into a cluster of 3 metadata servers and 3 data nodes\n\
    over a real S3 server, breaks servers on the way, and checks every byte. Usually run by `cargo xtask demo`.\n\n\
    CAIRN_DEMO_KEEP=1 keeps the servers' directories and logs.";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let directory = match (arguments.next(), arguments.next()) {
        (Some(word), None) if word == "--help" || word == "-h" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        (directory, None) => directory.map(PathBuf::from),
        (_, Some(_)) => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cairn-demo: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ncairn-demo FAILED: {error}");
            ExitCode::from(error.code())
        }
    }
}

/// The acts in order. Ctrl-C ends it early; either way every server is gone and the directory removed after.
async fn run(directory: Option<PathBuf>) -> Result<(), DemoError> {
    let tree = Tree::choose(directory.as_deref())?;
    let mut stage = Stage::empty()?;
    let outcome = tokio::select! {
        outcome = acts(&mut stage, &tree) => outcome,
        pressed = tokio::signal::ctrl_c() => Err(match pressed {
            Ok(()) => DemoError::Interrupted,
            Err(source) => DemoError::io("wait for", "Ctrl-C", source),
        }),
    };
    if outcome.is_err() {
        stage.explain();
    }
    stage.clear();
    outcome
}

async fn acts(stage: &mut Stage, tree: &Tree) -> Result<(), DemoError> {
    let mut report = Report::default();
    say::title("CairnFS demo: real servers, real S3, real kill -9");
    start::start(stage, tree, &mut report).await?;
    copy::put(stage, tree, &mut report).await?;
    copy::list(stage, tree, copy::FIRST_NAME, Some(&mut report)).await?;
    copy::read_back(stage, tree, &mut report).await?;
    rename::rename(stage, tree, &mut report).await?;
    let wal = wal::append_and_kill(stage, &mut report).await?;
    packs::drain_and_show(stage, tree.bytes + wal.bytes, &mut report).await?;
    landing::mount_and_read(stage, &mut report).await?;
    revive::revive(stage, &wal, &mut report).await?;
    report.print();
    Ok(())
}
