//! Why a server could not be started.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum S3ServerError {
    /// The program is neither named by the environment nor installed by xtask.
    #[error("{program} not found: run `cargo xtask setup`, or name it in {variable}")]
    ToolMissing {
        /// The program's name.
        program: &'static str,
        /// The environment variable that may name it.
        variable: &'static str,
    },
    /// A file or process operation failed.
    #[error("{action} {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
    /// The process ended while we waited for its first answer.
    #[error("{program} ended with {status} while starting; its log ends:\n{log}")]
    Exited {
        /// The program's name.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it wrote.
        log: String,
    },
    /// It runs but does not serve.
    #[error("{program} does not serve after {waited:?}: {last}; its log ends:\n{log}")]
    NotReady {
        /// The program's name.
        program: &'static str,
        /// How long we waited.
        waited: Duration,
        /// What the last request got.
        last: String,
        /// The last lines it wrote.
        log: String,
    },
    /// There were not enough free ports between 10,000 and 30,000.
    #[error("no {wanted} free ports on 127.0.0.1")]
    NoPorts {
        /// How many were needed.
        wanted: usize,
    },
}
