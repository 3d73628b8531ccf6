//! [`run`]: one `cairn` command to its end, with what it said.

use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::{Cluster, ClusterError};

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error, as text.
    pub stderr: String,
}

impl Cluster {
    /// Runs `cairn` on this cluster with the words of `line`, and no input.
    ///
    /// # Errors
    /// Those of [`run`].
    pub async fn cairn(&self, line: &str, within: Duration) -> Result<Outcome, ClusterError> {
        let mut command = self.cli();
        command.args(line.split_whitespace());
        run(command, b"", within).await
    }
}

impl Outcome {
    /// What a command printed that must have ended well.
    ///
    /// # Panics
    /// It did not.
    #[must_use]
    pub fn expected(&self) -> String {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self.text()
    }

    /// The standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Runs a command to its end with `input` as its standard input. It is killed when it takes longer.
///
/// # Errors
/// [`ClusterError::Io`] when it cannot be started, [`ClusterError::Late`] when it takes too long.
pub async fn run(command: Command, input: &[u8], within: Duration) -> Result<Outcome, ClusterError> {
    let shown = format!("{command:?}");
    let failed = |source| ClusterError::Io { action: "run", subject: shown.clone(), source };
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let mut stdin = child.stdin.take();
    let write = async {
        if let Some(stdin) = &mut stdin {
            // A command that ends without reading its input closes the pipe: that is no failure.
            let _ = stdin.write_all(input).await;
        }
        drop(stdin.take());
    };
    let both = async { tokio::join!(write, child.wait_with_output()).1 };
    match tokio::time::timeout(within, both).await {
        Ok(ended) => {
            let ended = ended.map_err(failed)?;
            Ok(Outcome {
                code: ended.status.code().unwrap_or(-1),
                stdout: ended.stdout,
                stderr: String::from_utf8_lossy(&ended.stderr).into_owned(),
            })
        }
        Err(_) => Err(ClusterError::Late { condition: format!("{shown} to end"), seconds: within.as_secs() }),
    }
}
