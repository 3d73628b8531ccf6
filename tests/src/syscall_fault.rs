//! [`SyscallFault`]: strace on a server, which kills it at one of its system calls, or makes them fail.

#![allow(clippy::disallowed_methods, reason = "waits for real processes in real time")]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::s3_server::spawn_bound_to_this_process;

/// How long strace may take to hold all threads of a process.
const ATTACH_WITHIN: Duration = Duration::from_secs(10);

/// strace, attached. It lets go when this is dropped.
#[derive(Debug)]
pub struct SyscallFault(Child);

/// Why the fault is not there.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// There is no strace, or it may not trace.
    #[error("strace cannot trace here: {reason}")]
    Unable {
        /// What it said.
        reason: String,
    },
}

impl SyscallFault {
    /// The process `pid` is killed as one of its threads makes its `nth` call of `call`, counted from now
    /// for each thread. Answers once every thread is watched.
    ///
    /// # Errors
    /// [`FaultError`] where there is no strace, or it may not trace.
    pub fn kill_at(pid: u32, call: &str, nth: u32) -> Result<Self, FaultError> {
        Self::attach(pid, call, &format!("signal=KILL:when={nth}"), &[])
    }

    /// From now on every call of `call` in the process `pid` fails with `error` (`EIO`), without being
    /// made. Answers once every thread is watched.
    ///
    /// # Errors
    /// [`FaultError`] where there is no strace, or it may not trace.
    pub fn fail(pid: u32, call: &str, error: &str) -> Result<Self, FaultError> {
        Self::attach(pid, call, &format!("error={error}:when=1+"), &[])
    }

    /// The same, of calls on these files alone.
    ///
    /// # Errors
    /// [`FaultError`] where there is no strace, or it may not trace.
    pub fn fail_on(pid: u32, call: &str, error: &str, files: &[PathBuf]) -> Result<Self, FaultError> {
        Self::attach(pid, call, &format!("error={error}:when=1+"), files)
    }

    fn attach(pid: u32, call: &str, inject: &str, files: &[PathBuf]) -> Result<Self, FaultError> {
        let unable = |reason: String| FaultError::Unable { reason };
        let mut command = Command::new("strace");
        command
            .args(["-f", "-e", &format!("trace={call}"), "-e", &format!("inject={call}:{inject}")])
            .args(files.iter().flat_map(|file| ["-P".as_ref(), file.as_os_str()]))
            .args(["-o", "/dev/null", "-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = spawn_bound_to_this_process(command).map_err(|error| unable(error.to_string()))?;
        let said = child.stderr.take();
        let fault = Self(child);
        let (line, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for said in said.into_iter().flat_map(|said| BufReader::new(said).lines()).map_while(Result::ok) {
                // Nobody listens once it is attached.
                let _ = line.send(said);
            }
        });
        let deadline = Instant::now() + ATTACH_WITHIN;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let said = lines.recv_timeout(left).unwrap_or_else(|_| "it said nothing".to_owned());
            // It tells first where the files lie that are no plain paths.
            match said.as_str() {
                said if said.contains("attached") => return Ok(fault),
                said if said.contains("Requested path") => {}
                said => return Err(unable(said.to_owned())),
            }
        }
    }

    /// Waits until the process is gone; false when it is not within that time.
    pub fn struck(&mut self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Drop for SyscallFault {
    fn drop(&mut self) {
        // It may have ended with its process.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
