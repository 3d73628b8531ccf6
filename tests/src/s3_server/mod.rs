//! A real S3 server for tests: SeaweedFS, or moto, in a process of its own on free loopback ports.
//!
//! `cargo xtask setup` installs both. The server is killed when the [`S3Server`] is dropped, and by
//! the kernel when the test process dies without dropping it. Tests that leave the server alone share
//! one: [`Bucket::shared`].

#![allow(
    clippy::disallowed_methods,
    reason = "waits for a real process in real time, on ports chosen freely"
)]

mod bucket;
mod error;
mod janitor;
mod process;
mod shared;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::create_bucket::CreateBucketError;
use rustix::process::{Pid, Signal, kill_process_group};

use bucket::{ACCESS_KEY, SECRET_KEY};

pub use bucket::Bucket;
pub use error::S3ServerError;
pub(crate) use process::is_stopped;
pub use process::{free_ports, spawn_bound_to_this_process};

const BUCKET: &str = "cairn-test";

/// The parts of SeaweedFS, each with a port and a gRPC port. S3 is first.
const SERVICES: [&str; 4] = ["s3", "master", "volume", "filer"];

/// How long a server may take from its start to its first answer.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// How often a start is tried again on other ports when the process ends at once.
const START_ATTEMPTS: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Seaweed,
    Moto,
}

impl Kind {
    fn program(self) -> &'static str {
        match self {
            Self::Seaweed => "weed",
            Self::Moto => "moto_server",
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Self::Seaweed => "CAIRN_WEED",
            Self::Moto => "CAIRN_MOTO_SERVER",
        }
    }

    fn ports_count(self) -> usize {
        match self {
            Self::Seaweed => SERVICES.len() * 2,
            Self::Moto => 1,
        }
    }
}

/// A running (or killed) S3 server with one bucket.
///
/// Its address stays the same over [`kill`](Self::kill) and [`restart`](Self::restart).
#[derive(Debug)]
pub struct S3Server {
    kind: Kind,
    program: PathBuf,
    directory: PathBuf,
    /// Keeps moto's log directory.
    _temporary: Option<tempfile::TempDir>,
    ports: Vec<u16>,
    child: Option<Child>,
}

impl S3Server {
    /// Starts SeaweedFS with its data in `directory` (made if absent), waits until it serves and
    /// makes the bucket. Data survives [`kill`](Self::kill) as far as SeaweedFS had written it: it
    /// acknowledges before it fsyncs.
    ///
    /// # Errors
    /// See [`S3ServerError`].
    pub async fn seaweed(directory: &Path) -> Result<Self, S3ServerError> {
        Self::start(Kind::Seaweed, directory.to_path_buf(), None).await
    }

    /// Starts moto. It keeps everything in memory: a restart forgets all.
    ///
    /// # Errors
    /// See [`S3ServerError`].
    pub async fn moto() -> Result<Self, S3ServerError> {
        let temporary = tempfile::tempdir().map_err(|source| S3ServerError::Io {
            action: "make a directory in",
            path: std::env::temp_dir(),
            source,
        })?;
        Self::start(Kind::Moto, temporary.path().to_path_buf(), Some(temporary)).await
    }

    async fn start(
        kind: Kind,
        directory: PathBuf,
        temporary: Option<tempfile::TempDir>,
    ) -> Result<Self, S3ServerError> {
        let program = find_program(kind)?;
        fs::create_dir_all(&directory).map_err(|source| S3ServerError::Io {
            action: "make",
            path: directory.clone(),
            source,
        })?;
        let mut server =
            Self { kind, program, directory, _temporary: temporary, ports: Vec::new(), child: None };
        let mut attempt = 1;
        loop {
            server.ports = free_ports(kind.ports_count())?;
            match server.restart().await {
                // Somebody took a port between our look and its bind.
                Err(S3ServerError::Exited { .. }) if attempt < START_ATTEMPTS => attempt += 1,
                other => return other.map(|()| server),
            }
        }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// The port of the S3 endpoint.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// The bucket that is there from the start.
    pub fn bucket(&self) -> Bucket {
        self.named(BUCKET)
    }

    /// Makes a bucket; one that is there already is fine.
    ///
    /// # Errors
    /// Whatever the server answers.
    pub async fn create_bucket(&self, name: &str) -> Result<Bucket, SdkError<CreateBucketError>> {
        let bucket = self.named(name);
        bucket.create(&bucket.client()).await?;
        Ok(bucket)
    }

    fn named(&self, bucket: &str) -> Bucket {
        Bucket::new(self.endpoint(), bucket, &self.directory)
    }

    /// Ends the process at once, as kill -9 does. Nothing if it does not run.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut child) = self.child.take() {
            // It was killed: wait cannot fail but for a child already waited for.
            let _ = child.wait();
        }
    }

    /// Stops the process without ending it: the kernel still accepts connections, nothing answers.
    /// Returns once every thread stands still, or after 5 s.
    pub async fn pause(&self) {
        self.signal(Signal::STOP);
        let Some(child) = &self.child else { return };
        // The signal stops one thread after the other; a busy machine takes its time.
        let deadline = Instant::now() + Duration::from_secs(5);
        while !process::is_stopped(child.id()) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Goes on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().and_then(|child| Pid::from_raw(child.id().cast_signed()));
        if let Some(pid) = pid {
            // The child leads a group of its own. It may be gone already: that is what we want.
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Kills the server if it runs, starts it on the same ports and waits until it serves.
    ///
    /// # Errors
    /// See [`S3ServerError`].
    pub async fn restart(&mut self) -> Result<(), S3ServerError> {
        self.kill();
        let command = match self.kind {
            Kind::Seaweed => self.seaweed_command()?,
            Kind::Moto => self.moto_command(),
        };
        let spawned = self.log_into(command).and_then(spawn_bound_to_this_process);
        let child = spawned.map_err(|source| S3ServerError::Io {
            action: "start",
            path: self.program.clone(),
            source,
        })?;
        self.child = Some(child);
        self.wait_until_ready().await
    }

    fn seaweed_command(&self) -> Result<Command, S3ServerError> {
        let identities = format!(
            r#"{{"identities":[{{"name":"cairn","credentials":[{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}}],"actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
        );
        let config = self.directory.join("s3.json");
        fs::write(&config, identities).map_err(|source| S3ServerError::Io {
            action: "write",
            path: config,
            source,
        })?;
        let data = self.directory.join("data");
        fs::create_dir_all(&data).map_err(|source| S3ServerError::Io {
            action: "make",
            path: data,
            source,
        })?;
        let mut command = Command::new(&self.program);
        command.args(["-logtostderr=true", "server", "-dir=data", "-filer", "-s3", "-s3.config=s3.json"]);
        command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.iam=false", "-s3.autoCreateBucket=false"]);
        command.args(["-volume.max=1000", "-master.volumeSizeLimitMB=512", "-master.telemetry=false"]);
        // A master alone waits for its own election: with the default 10 s a restart takes 22 s, not 3.
        command.arg("-master.electionTimeout=1s");
        command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
        // Its sockets would lie in /tmp otherwise (those of gRPC do: see `sockets`).
        command.args(["-filer.localSocket=filer.sock", "-s3.localSocket=s3.sock"]);
        for (service, ports) in SERVICES.iter().zip(self.ports.chunks_exact(2)) {
            command.arg(format!("-{service}.port={}", ports[0]));
            command.arg(format!("-{service}.port.grpc={}", ports[1]));
        }
        Ok(command)
    }

    /// The unix sockets that SeaweedFS makes beside its gRPC ports and leaves when killed; each is there
    /// only if it got so far.
    fn sockets(&self) -> Vec<PathBuf> {
        let services = SERVICES.iter().zip(self.ports.chunks_exact(2));
        services
            .map(|(service, ports)| format!("/tmp/seaweedfs-{service}-grpc-{}.sock", ports[1]).into())
            .collect()
    }

    fn moto_command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["-H", "127.0.0.1", "-p", &self.port().to_string()]);
        command
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    fn log_into(&self, mut command: Command) -> io::Result<Command> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        command.current_dir(&self.directory);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }

    /// Waits until an object can be written and read.
    async fn wait_until_ready(&mut self) -> Result<(), S3ServerError> {
        let started = Instant::now();
        let bucket = self.bucket();
        let client = bucket.client();
        while let Err(last) = bucket.try_out(&client).await {
            if let Some(child) = &mut self.child
                && let Ok(Some(status)) = child.try_wait()
            {
                self.child = None;
                let program = self.kind.program();
                return Err(S3ServerError::Exited { program, status, log: self.log_end() });
            }
            let waited = started.elapsed();
            if waited > READY_DEADLINE {
                return Err(self.not_ready(waited, last));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn not_ready(&self, waited: Duration, last: String) -> S3ServerError {
        S3ServerError::NotReady { program: self.kind.program(), waited, last, log: self.log_end() }
    }

    /// The last 20 lines of the server's log.
    fn log_end(&self) -> String {
        let log = fs::read(self.log_path()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.kill();
        for socket in self.sockets() {
            // Not there unless it got so far.
            let _ = fs::remove_file(socket);
        }
    }
}

/// The server's program: what the environment names, else what `cargo xtask setup` installed.
fn find_program(kind: Kind) -> Result<PathBuf, S3ServerError> {
    let named = std::env::var_os(kind.variable()).filter(|path: &OsString| !path.is_empty());
    let mut places: Vec<PathBuf> = named.into_iter().map(PathBuf::from).collect();
    if places.is_empty() {
        // A test runs from <target>/release/deps, a program from <target>/release.
        let executable = std::env::current_exe().unwrap_or_default();
        let tool = Path::new("tools/current/bin").join(kind.program());
        places.extend(executable.ancestors().skip(1).take(4).map(|directory| directory.join(&tool)));
    }
    let found = places.into_iter().find(|path| path.is_file());
    found.ok_or(S3ServerError::ToolMissing { program: kind.program(), variable: kind.variable() })
}
