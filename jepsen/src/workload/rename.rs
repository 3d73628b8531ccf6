//! Renames: a register is a directory that holds one directory; its name is the value. A rename
//! that must not replace is a compare-and-set, a listing is a read.

use std::time::Duration;

use cairn_sdk::types::FsError;
use cairn_sdk::{Client, Error, ListingOptions, RenameMode};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Process, outcome_of};
use crate::history::{Call, Outcome};

/// Registers.
pub const REGISTERS: u32 = 4;
/// Values of a register, 0 at first.
const VALUES: u32 = 6;
/// Between two operations of a process: the checker's time grows with the history.
const PACE: Duration = Duration::from_millis(5);

fn directory(register: u32) -> String {
    format!("/register-{register}")
}

fn value_path(register: u32, value: u32) -> String {
    format!("/register-{register}/{value}")
}

/// Makes the registers.
///
/// # Errors
/// What the SDK met.
pub async fn prepare(client: &Client) -> Result<(), Error> {
    for register in 0..REGISTERS {
        client.mkdir_all(value_path(register, 0), 0o755).await?;
    }
    Ok(())
}

/// Renames and lists until it is told to stop.
pub async fn run(process: Process) {
    let mut random = StdRng::seed_from_u64(process.seed);
    let mut seen = [0; REGISTERS as usize];
    while !process.stop.is_cancelled() {
        let register = random.random_range(0..REGISTERS);
        if random.random_bool(0.5) {
            if let Some(value) = look(&process, register).await {
                seen[register as usize] = value;
            }
        } else {
            let from = seen[register as usize];
            let to = (from + random.random_range(1..VALUES)) % VALUES;
            rename(&process, register, from, to).await;
        }
        tokio::time::sleep(PACE).await;
    }
}

async fn rename(process: &Process, register: u32, from: u32, to: u32) {
    let called_ns = process.recorder.now_ns();
    let answer = process
        .client
        .rename(value_path(register, from), value_path(register, to), RenameMode::NoReplace)
        .await;
    let (outcome, moved) = match answer {
        Ok(()) => (Outcome::Ok, true),
        // It had another value.
        Err(error) if error.fs() == Some(&FsError::NotFound) => (Outcome::Ok, false),
        Err(error) => (outcome_of(&error), false),
    };
    let call = Call::Rename { register, from, to, moved };
    process.recorder.note(process.number, called_ns, outcome, call).await;
    if outcome == Outcome::Ok {
        process.succeed();
    }
}

async fn look(process: &Process, register: u32) -> Option<u32> {
    let called_ns = process.recorder.now_ns();
    let answer = read(&process.client, register).await;
    let (outcome, value) = match answer {
        Ok(value) => (Outcome::Ok, value),
        Err(_) => (Outcome::Unknown, None),
    };
    let call = Call::Look { register, value };
    process.recorder.note(process.number, called_ns, outcome, call).await;
    if outcome == Outcome::Ok {
        process.succeed();
    }
    value
}

/// The register's value; `None` when its directory holds none, or more than one.
async fn read(client: &Client, register: u32) -> Result<Option<u32>, Error> {
    let mut listing = client.list(directory(register), ListingOptions::default());
    let mut values = Vec::new();
    while let Some(entry) = listing.next().await? {
        values.push(entry.name.to_string().parse().ok());
    }
    Ok(if values.len() == 1 { values[0] } else { None })
}
