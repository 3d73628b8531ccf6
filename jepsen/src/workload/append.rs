//! Appends: writers share files and keep several records in flight; the records carry their numbers.

use std::collections::VecDeque;

use cairn_sdk::{Acknowledgement, Appender, Client};
use cairn_tests::cluster::{Found, record, records};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Process, outcome_of};
use crate::history::{Call, Outcome};

/// Files that the writers share.
pub const FILES: u32 = 2;
/// Records of one writer in flight.
const IN_FLIGHT: usize = 4;
/// Writer ids of one process: each time it opens the file anew it is another writer.
const WRITERS_EACH: u32 = 10_000;

/// Where a file is.
#[must_use]
pub fn path(file: u32) -> String {
    format!("/append-{file}")
}

struct Sent {
    number: u64,
    length: u64,
    called_ns: u64,
    ticket: Acknowledgement,
}

/// Appends until it is told to stop.
pub async fn run(process: Process) {
    let file = process.number % FILES;
    let mut random = StdRng::seed_from_u64(process.seed);
    let mut incarnation = 0;
    while !process.stop.is_cancelled() {
        let writer = process.number * WRITERS_EACH + incarnation;
        incarnation += 1;
        match process.client.open_append(path(file)).await {
            Ok(appender) => write(&process, file, writer, &appender, &mut random).await,
            // Nothing was appended: there is nothing to note. It is tried again.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    }
}

/// Appends until something fails or it is told to stop; everything submitted is noted.
async fn write(process: &Process, file: u32, writer: u32, appender: &Appender, random: &mut StdRng) {
    let mut under_way: VecDeque<Sent> = VecDeque::new();
    let mut number = 0;
    let mut failed = false;
    while !failed && !process.stop.is_cancelled() {
        number += 1;
        let data = record(writer, number, random.random_range(30..1500));
        let (called_ns, length) = (process.recorder.now_ns(), data.len() as u64);
        match appender.submit(data).await {
            Ok(ticket) => under_way.push_back(Sent { number, length, called_ns, ticket }),
            Err(error) => {
                let call = Call::Append { file, writer, number, length, offset: None };
                process.recorder.note(process.number, called_ns, outcome_of(&error), call).await;
                failed = true;
            }
        }
        while under_way.len() >= IN_FLIGHT {
            failed |= !settle(process, file, writer, &mut under_way).await;
        }
    }
    while !under_way.is_empty() {
        settle(process, file, writer, &mut under_way).await;
    }
}

/// Notes what became of the oldest record; true when it was acknowledged.
async fn settle(process: &Process, file: u32, writer: u32, under_way: &mut VecDeque<Sent>) -> bool {
    let Some(Sent { number, length, called_ns, ticket }) = under_way.pop_front() else { return false };
    let (outcome, offset) = match ticket.offset().await {
        Ok(offset) => (Outcome::Ok, Some(offset)),
        Err(error) => (outcome_of(&error), None),
    };
    let call = Call::Append { file, writer, number, length, offset };
    process.recorder.note(process.number, called_ns, outcome, call).await;
    if outcome == Outcome::Ok {
        process.succeed();
    }
    outcome == Outcome::Ok
}

/// The records of a file, by a reader who took no part.
///
/// # Errors
/// Why it cannot be read, or where it holds no whole record.
pub async fn observe(client: &Client, file: u32) -> Result<Vec<Found>, String> {
    let handle = client.open(path(file)).await.map_err(|e| e.to_string())?;
    let length = usize::try_from(handle.length()).map_err(|e| e.to_string())?;
    let bytes = handle.read_at(0, length).await.map_err(|e| e.to_string())?;
    if bytes.len() != length {
        return Err(format!("{} of {length} bytes were read", bytes.len()));
    }
    records(&bytes)
}
