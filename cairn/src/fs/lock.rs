//! `cairn fs lock`: runs a command while a lock is held, as flock(1) does.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use cairn_sdk::types::{FsError, LockMode};
use cairn_sdk::{At, Client, LockGuard};
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::remote;
use crate::cli::LockArgs;
use crate::exit::CliError;

/// Permission bits of a file that is made to be locked.
const MODE: u32 = 0o644;
/// SIGINT, and SIGTERM.
const INTERRUPT: u8 = 2;
const TERMINATE: u8 = 15;
/// The only owner of locks in this process.
const OWNER: u64 = 1;

pub async fn run(client: &Client, args: LockArgs) -> Result<(), CliError> {
    let mut signals = Signals::listen()?;
    let guard = tokio::select! {
        taken = take(client, &args) => taken?,
        // The session ends next, and with it the wait.
        signal = signals.next() => return Err(CliError::Command { code: 128 + signal }),
    };
    let status = command(&args, &mut signals).await;
    // Whatever came of the command.
    let unlocked = guard.unlock().await;
    let status = status?;
    if let Err(error) = unlocked {
        return Err(match error.fs() {
            Some(FsError::SessionExpired) => CliError::LockLost { path: shown(&args) },
            _ => error.into(),
        });
    }
    match code(status) {
        0 => Ok(()),
        code => Err(CliError::Command { code }),
    }
}

fn shown(args: &LockArgs) -> String {
    args.path.to_string_lossy().into_owned()
}

async fn take(client: &Client, args: &LockArgs) -> Result<LockGuard, CliError> {
    let at = At::from(&remote(&args.path)?);
    let inode = client.create_entry(&at, MODE, false, false).await?;
    let locks = client.locks(inode.ino, OWNER);
    let mode = if args.shared { LockMode::Shared } else { LockMode::Exclusive };
    let taken = match (args.range, args.no_wait) {
        (Some(range), false) => locks.lock(range, mode).await,
        (Some(range), true) => locks.try_lock(range, mode).await,
        (None, false) => locks.flock(mode).await,
        (None, true) => locks.try_flock(mode).await,
    };
    taken.map_err(|error| match error.fs() {
        Some(refused @ FsError::Locked { .. }) => {
            CliError::NotLocked { path: shown(args), refused: refused.clone() }
        }
        _ => error.into(),
    })
}

/// Runs the command to its end. A terminal sends its interrupts to the command too, which decides what
/// to do about them; a request to end is passed on to it. The lock is held until it has ended.
async fn command(args: &LockArgs, signals: &mut Signals) -> Result<ExitStatus, CliError> {
    let (program, arguments) =
        args.command.split_first().ok_or_else(|| CliError::Usage("name a command to run".to_owned()))?;
    let failed = |source| CliError::io("run", program.to_string_lossy(), source);
    let mut child = Command::new(program).args(arguments).spawn().map_err(failed)?;
    loop {
        tokio::select! {
            ended = child.wait() => return ended.map_err(failed),
            signal = signals.next() => if signal == TERMINATE {
                pass_on(&child);
            },
        }
    }
}

/// The requests to end that this process gets.
struct Signals {
    interrupts: Signal,
    ends: Signal,
}

impl Signals {
    fn listen() -> Result<Self, CliError> {
        let failed = |source| CliError::io("listen for", "signals", source);
        Ok(Self {
            interrupts: signal(SignalKind::interrupt()).map_err(failed)?,
            ends: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    /// The next one's number.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupts.recv() => INTERRUPT,
            _ = self.ends.recv() => TERMINATE,
        }
    }
}

fn pass_on(child: &tokio::process::Child) {
    let raw = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(pid) = raw.and_then(rustix::process::Pid::from_raw) {
        // It may have ended by itself: then it is waited for next.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

/// As a shell has it: 128 and the signal for a command that a signal ended.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code & 0xff).unwrap_or(1)
}
