//! The bytes of every command, every operation and every refusal are pinned in
//! entries-golden.txt: they are in Raft logs and kept replies.

use cairn_types::{FsError, Timestamp};

use super::entry_samples::{commands, operations};
use super::golden_tests::hex;
use crate::namespace::{Entry, reply};

fn known() -> String {
    std::fs::read_to_string("src/keys/entries-golden.txt").unwrap()
}

#[test]
fn every_entry_and_every_refusal_has_the_bytes_it_had() {
    let mut lines = Vec::new();
    for (kind, samples) in [("command", commands()), ("operation", operations())] {
        for (name, command) in samples {
            let bytes = Entry { time: Timestamp(1), command }.to_bytes();
            lines.push(format!("{kind}_{name} {}", hex(&bytes)));
        }
    }
    for refusal in FsError::samples() {
        let name = format!("{refusal:?}");
        let name = name.split([' ', '{']).next().unwrap_or_default().to_owned();
        lines.push(format!("refusal_{name} {}", hex(&reply::to_bytes(&Err(refusal)))));
    }
    let known = known();
    let known: Vec<&str> = known.lines().collect();
    for (n, line) in lines.iter().enumerate() {
        assert_eq!(Some(line.as_str()), known.get(n).copied(), "line {}", n + 1);
    }
    assert_eq!(lines.len(), known.len());
}

#[test]
fn the_numbers_are_without_gaps() {
    // Format byte, time, then the command's number; the operation's after four more numbers.
    let numbers: Vec<u8> = commands()
        .into_iter()
        .map(|(_, command)| Entry { time: Timestamp(1), command }.to_bytes()[2])
        .collect();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u8), "{numbers:?}");
    let numbers: Vec<u8> = operations()
        .into_iter()
        .map(|(_, command)| Entry { time: Timestamp(1), command }.to_bytes()[6])
        .collect();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u8), "{numbers:?}");
    let numbers: Vec<u8> = FsError::samples().into_iter().map(|e| reply::to_bytes(&Err(e))[2]).collect();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u8), "{numbers:?}");
}

#[test]
fn every_entry_is_read_back_and_no_cut_one_is() {
    for (name, command) in commands().into_iter().chain(operations()) {
        let entry = Entry { time: Timestamp(1), command };
        let bytes = entry.to_bytes();
        assert_eq!(Entry::from_bytes(&bytes).unwrap(), entry, "{name}");
        for end in 0..bytes.len() {
            assert!(Entry::from_bytes(&bytes[..end]).is_err(), "{name}, cut at {end}");
        }
    }
}
