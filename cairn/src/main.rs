//! `cairn`: the one binary of CairnFS. Servers, file commands, administration.
#![allow(clippy::disallowed_methods, reason = "a command-line tool measures and shows real time")]

mod admin;
mod bench;
mod cli;
mod completions;
mod config;
mod exit;
mod fs;
mod lag;
mod local;
mod mount;
mod output;
mod policy;
mod progress;
mod servers;
mod status;
mod units;
mod up;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::exit::CliError;

/// Many small allocations on every hop of a request: glibc's allocator takes a tenth of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; clap's own code for bad usage is 2, as ours.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => return exit::report(&CliError::io("start the runtime", "", source)),
    };
    let outcome = runtime.block_on(run(cli));
    // Blocked reads of standard input must not keep a finished command alive.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}

async fn run(cli: Cli) -> Result<(), CliError> {
    let server = matches!(cli.command, Command::Meta(_) | Command::Data(_) | Command::Up(_));
    servers::start_logging(server, &cli.log)?;
    match cli.command {
        Command::Up(args) => up::run(args).await,
        Command::Meta(args) => servers::meta(args).await,
        Command::Data(args) => servers::data(args).await,
        Command::Status(args) => status::run(&cli.connect, args).await,
        Command::Lag(args) => lag::run(&cli.connect, args).await,
        Command::Policy(args) => policy::run(&cli.connect, args).await,
        Command::Fs(args) => fs::run(&cli.connect, args).await,
        Command::Mount(args) => mount::run(&cli.connect, args).await,
        Command::Admin(args) => admin::run(&cli.connect, args).await,
        Command::Bench(args) => bench::run(&cli.connect, args).await,
        Command::Completions { shell } => completions::print(shell),
    }
}
