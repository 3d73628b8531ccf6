//! `cairn completions`.

use clap::CommandFactory;

use crate::cli::Cli;
use crate::exit::CliError;

/// Prints a completion script.
pub fn print(shell: clap_complete::Shell) -> Result<(), CliError> {
    clap_complete::generate(shell, &mut Cli::command(), "cairn", &mut std::io::stdout());
    Ok(())
}
