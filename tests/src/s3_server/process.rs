//! Starting a server's process: on which ports, and so that it never outlives the test.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{OnceLock, mpsc};
use std::thread;

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

use super::S3ServerError;

/// Ports of 127.0.0.1 that nobody listens on, below the range the kernel gives to outgoing
/// connections, so that a server can be restarted on its own.
///
/// # Errors
/// [`S3ServerError::NoPorts`] when 1,000 tries found too few.
pub fn free_ports(wanted: usize) -> Result<Vec<u16>, S3ServerError> {
    // All stay bound until all are found, so that none is given twice.
    let mut listeners = Vec::new();
    let mut ports = Vec::new();
    for _ in 0..1000 {
        if ports.len() == wanted {
            return Ok(ports);
        }
        let port = rand::random_range(10_000..30_000_u16);
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            listeners.push(listener);
            ports.push(port);
        }
    }
    Err(S3ServerError::NoPorts { wanted })
}

/// Whether all threads of a process are stopped (state T in /proc), not only told to.
pub(crate) fn is_stopped(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which stands in parentheses and may hold anything.
        status.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
    })
}

type SpawnJob = (Command, mpsc::SyncSender<io::Result<Child>>);

/// Starts a child in a process group of its own that the kernel kills when this process ends.
///
/// The kernel's death signal is bound to the *thread* that forked, and a test's thread ends long
/// before its process; so one thread that lives as long as the process does all the forking.
///
/// # Errors
/// Those of [`Command::spawn`].
pub fn spawn_bound_to_this_process(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::SyncSender<SpawnJob>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = mpsc::sync_channel::<SpawnJob>(16);
        thread::spawn(move || {
            for (mut command, answer) in jobs {
                // The asker waits for this answer.
                let _ = answer.send(spawn_bound_to_this_thread(&mut command));
            }
        });
        sender
    });
    let gone = || io::Error::other("the spawning thread is gone");
    let (sender, answer) = mpsc::sync_channel(1);
    spawner.send((command, sender)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

fn spawn_bound_to_this_thread(command: &mut Command) -> io::Result<Child> {
    let parent = getpid();
    let bind = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // Had the parent died before the line above, no signal would ever come.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    command.process_group(0);
    // SAFETY: between fork and exec only two system calls are made, which are async-signal-safe;
    // nothing is allocated and no lock is taken.
    unsafe { command.pre_exec(bind) };
    command.spawn()
}
