//! [`Server`]: one `cairn` process, its files and its log.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::ClusterError;
use crate::s3_server::{is_stopped, spawn_bound_to_this_process};

/// Bytes of a log that an error shows.
const LOG_TAIL_BYTES: usize = 4096;

/// How long a stopped process may take to stand still.
const STOP_DEADLINE: Duration = Duration::from_secs(2);

/// One server of the cluster: running, paused, or dead.
#[derive(Debug)]
pub struct Server {
    name: String,
    role: &'static str,
    binary: PathBuf,
    directory: PathBuf,
    address: String,
    /// Where it listens: its address, unless that is a door.
    listen: String,
    http: String,
    environment: Vec<(String, String)>,
    /// The command that starts it, before its own; empty: none.
    within: Vec<String>,
    child: Option<Child>,
}

fn failed(action: &'static str, subject: &Path) -> impl FnOnce(std::io::Error) -> ClusterError {
    let subject = subject.display().to_string();
    move |source| ClusterError::Io { action, subject, source }
}

impl Server {
    pub(super) fn new(
        role: &'static str,
        number: usize,
        root: &Path,
        binary: &Path,
        address: String,
        http: String,
        environment: Vec<(String, String)>,
    ) -> Self {
        let name = format!("{role}{number}");
        let directory = root.join(&name);
        let (binary, listen, within) = (binary.to_owned(), address.clone(), Vec::new());
        Self { name, role, binary, directory, address, listen, http, environment, within, child: None }
    }

    /// The same server, reached at its address through a [`Door`](super::Door).
    pub(super) fn behind_a_door(mut self, listen: String) -> Self {
        self.listen = listen;
        self
    }

    /// `meta1`, `data3`, …
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its gRPC address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where it listens itself: its address, unless that is a door.
    #[must_use]
    pub fn listen(&self) -> &str {
        &self.listen
    }

    /// Its HTTP address.
    #[must_use]
    pub fn http(&self) -> &str {
        &self.http
    }

    /// Where it keeps its data.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where its `number`th disk is, from 1, of a node with several.
    #[must_use]
    pub fn disk(&self, number: usize) -> PathBuf {
        self.directory.join(format!("disk{number}"))
    }

    /// Makes the directories of so many disks; answers the line that configures them.
    pub(super) fn make_disks(&self, count: usize) -> Result<String, ClusterError> {
        if count == 1 {
            return Ok(format!("dir = {:?}", self.directory));
        }
        let disks: Vec<PathBuf> = (1..=count).map(|number| self.disk(number)).collect();
        for disk in &disks {
            std::fs::create_dir_all(disk).map_err(failed("make the directory", disk))?;
        }
        Ok(format!("dirs = {disks:?}"))
    }

    /// Its configuration file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.directory.with_extension("toml")
    }

    /// Where it logs.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.directory.with_extension("log")
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(self.log_path()).unwrap_or_default();
        let from = text.len().saturating_sub(LOG_TAIL_BYTES);
        String::from_utf8_lossy(&text[from..]).into_owned()
    }

    /// Writes its configuration file.
    pub(super) fn configure(&self, text: &str) -> Result<(), ClusterError> {
        let path = self.config_path();
        std::fs::write(&path, text).map_err(failed("write", &path))
    }

    /// Starts the process; does not wait until it serves.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start(&mut self) -> Result<(), ClusterError> {
        if self.is_running() {
            return Ok(());
        }
        let path = self.log_path();
        let log = File::options().create(true).append(true).open(&path).map_err(failed("open", &path))?;
        let errors = log.try_clone().map_err(failed("open", &path))?;
        let mut line = self.within.iter().map(OsString::from).chain([self.binary.clone().into_os_string()]);
        let mut command = Command::new(line.next().unwrap_or_default());
        command
            .args(line)
            .args([self.role, "--config"])
            .arg(self.config_path())
            .env("CAIRN_LOG", std::env::var("CAIRN_TEST_LOG").unwrap_or_else(|_| "info".to_owned()))
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        let child = spawn_bound_to_this_process(command).map_err(failed("start", &self.binary))?;
        self.child = Some(child);
        Ok(())
    }

    /// Gives it a variable of its environment, from its next start on.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Makes this command start it, as its last arguments, from its next start on.
    pub fn start_within(&mut self, command: &[&str]) {
        self.within = command.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Replaces text of its configuration file, for its next start.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn reconfigure(&self, old: &str, new: &str) -> Result<(), ClusterError> {
        let path = self.config_path();
        let text = std::fs::read_to_string(&path).map_err(failed("read", &path))?;
        self.configure(&text.replace(old, new))
    }

    /// True while the process exists (paused or not).
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|c| matches!(c.try_wait(), Ok(None)))
    }

    /// The process's id, if it was started.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The error of a process that ended by itself.
    pub(super) fn ended(&mut self) -> Option<ClusterError> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        Some(ClusterError::Ended {
            name: self.name.clone(),
            status: status.to_string(),
            log: self.log_tail(),
        })
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().and_then(|c| Pid::from_raw(i32::try_from(c.id()).unwrap_or(0)));
        if let Some(pid) = pid {
            // It may have ended already: then the signal has nothing to do.
            let _ = kill_process(pid, signal);
        }
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// SIGTERM, and waits until the process has left. Answers its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait()
    }

    fn wait(&mut self) -> Option<i32> {
        let status = self.child.take()?.wait().ok()?;
        status.code()
    }

    /// SIGSTOP: the process hangs with its connections open. Returns when every thread stands
    /// still, which takes a moment after the signal.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        let deadline = Instant::now() + STOP_DEADLINE;
        while self.child.as_ref().is_some_and(|c| !is_stopped(c.id())) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
