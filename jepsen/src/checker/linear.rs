//! Linearizability of registers whose value is the name that a directory has: renames are
//! compare-and-sets, a listing is a read. One history a register; an unknown rename has an open
//! end, an unknown read says nothing and is left out.

use std::collections::BTreeMap;
use std::time::Duration;

use porcupine_rs::{CheckResult, Model, Operation as Step};

use super::CheckError;
use crate::history::{Call, History, Operation, Outcome};

/// One step of a register.
#[derive(Clone, Debug)]
enum Register {
    /// It moved from one value to another.
    Moved { from: u32, to: u32 },
    /// It was refused: the register had not that value.
    NotMoved { from: u32 },
    /// It may have moved, or have been refused.
    MaybeMoved { from: u32, to: u32 },
    /// It was seen to have this value.
    Seen(u32),
}

#[derive(Clone, Debug)]
struct RegisterModel;

impl Model for RegisterModel {
    type State = u32;
    type Op = Register;
    type Metadata = ();

    fn init() -> u32 {
        0
    }

    fn step(state: &u32, op: &Register) -> (bool, u32) {
        match *op {
            Register::Moved { from, to } => (*state == from, to),
            Register::NotMoved { from } => (*state != from, *state),
            Register::MaybeMoved { from, to } => (true, if *state == from { to } else { *state }),
            Register::Seen(value) => (*state == value, *state),
        }
    }
}

fn step(operation: &Operation) -> Option<(u32, Step<RegisterModel>)> {
    let (register, op) = match (&operation.call, operation.outcome) {
        (Call::Rename { register, from, to, moved: true }, Outcome::Ok) => {
            (*register, Register::Moved { from: *from, to: *to })
        }
        (Call::Rename { register, from, moved: false, .. }, Outcome::Ok) => {
            (*register, Register::NotMoved { from: *from })
        }
        (Call::Rename { register, from, to, .. }, Outcome::Unknown) => {
            (*register, Register::MaybeMoved { from: *from, to: *to })
        }
        (Call::Look { register, value: Some(value) }, Outcome::Ok) => (*register, Register::Seen(*value)),
        _ => return None,
    };
    let time = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
    // What is unknown may happen at any time after it was asked, or never: then it is last of all.
    let open = operation.outcome == Outcome::Unknown;
    let step = Step {
        client_id: Some(operation.process),
        call_time: time(operation.called_ns),
        return_time: if open { i64::MAX } else { time(operation.returned_ns) },
        op,
        metadata: None,
    };
    Some((register, step))
}

/// Checks every register of a history, each within `limit`.
///
/// # Errors
/// [`CheckError`]: a violation, no end in time, or nothing to check.
pub fn check(history: &History, limit: Duration) -> Result<(), CheckError> {
    let mut registers: BTreeMap<u32, Vec<Step<RegisterModel>>> = BTreeMap::new();
    let mut ok = 0;
    for operation in &history.operations {
        if let Call::Look { register, value: None } = operation.call
            && operation.outcome == Outcome::Ok
        {
            // Both names at once, or neither: no register at all.
            return Err(CheckError::Violation(format!(
                "register {register} had no value, or two: {operation:?}"
            )));
        }
        if let Some((register, step)) = step(operation) {
            ok += usize::from(operation.outcome == Outcome::Ok);
            registers.entry(register).or_default().push(step);
        }
    }
    if ok == 0 {
        return Err(CheckError::TooLittle { ok });
    }
    for (register, steps) in registers {
        match porcupine_rs::check_operations_timeout(&steps, limit) {
            CheckResult::Ok => {}
            CheckResult::Illegal => {
                let text =
                    format!("register {register}: its {} operations are not linearizable", steps.len());
                return Err(CheckError::Violation(text));
            }
            CheckResult::Unknown => {
                let what = format!("register {register} with {} operations", steps.len());
                return Err(CheckError::OutOfTime { what, seconds: limit.as_secs() });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn at(times: (u64, u64), outcome: Outcome, call: Call) -> Operation {
        Operation { process: 0, called_ns: times.0, returned_ns: times.1, outcome, call }
    }

    fn moved(times: (u64, u64), from: u32, to: u32) -> Operation {
        at(times, Outcome::Ok, Call::Rename { register: 1, from, to, moved: true })
    }

    fn seen(times: (u64, u64), value: u32) -> Operation {
        at(times, Outcome::Ok, Call::Look { register: 1, value: Some(value) })
    }

    fn maybe(times: (u64, u64), from: u32, to: u32) -> Operation {
        at(times, Outcome::Unknown, Call::Rename { register: 1, from, to, moved: false })
    }

    fn verdict(operations: Vec<Operation>) -> Result<(), CheckError> {
        check(&History { operations }, LIMIT)
    }

    fn caught(operations: Vec<Operation>, what: &str) {
        let checked = verdict(operations);
        assert!(matches!(checked, Err(CheckError::Violation(_))), "{what}: {checked:?}");
    }

    #[test]
    fn good_histories_pass() {
        assert_eq!(
            verdict(vec![seen((0, 1), 0), moved((2, 5), 0, 1), seen((3, 4), 0), seen((6, 7), 1)]),
            Ok(())
        );
        // An unknown rename may have happened, even long after it was given up, or not at all.
        assert_eq!(verdict(vec![maybe((0, 1), 0, 1), seen((2, 3), 0), seen((4, 5), 1)]), Ok(()));
        assert_eq!(verdict(vec![maybe((0, 1), 0, 1), seen((2, 3), 0)]), Ok(()));
        // Of two at once one is refused.
        let refused = at((0, 9), Outcome::Ok, Call::Rename { register: 1, from: 0, to: 2, moved: false });
        assert_eq!(verdict(vec![moved((0, 9), 0, 1), refused, seen((10, 11), 1)]), Ok(()));
    }

    #[test]
    fn planted_faults_are_caught() {
        caught(vec![moved((0, 1), 0, 1), seen((2, 3), 0)], "a stale read");
        caught(vec![moved((0, 9), 0, 1), moved((0, 9), 0, 2)], "two winners of one compare-and-set");
        caught(vec![moved((0, 1), 0, 1), moved((2, 3), 0, 2)], "a rename applied to what was not there");
        caught(vec![seen((0, 1), 5)], "a value that nobody wrote");
        caught(vec![maybe((5, 6), 0, 1), seen((0, 1), 1)], "an effect before its cause");
        let refused = at((2, 3), Outcome::Ok, Call::Rename { register: 1, from: 1, to: 2, moved: false });
        caught(vec![moved((0, 1), 0, 1), refused], "refused, though the value was the one expected");
        caught(vec![at((0, 1), Outcome::Ok, Call::Look { register: 1, value: None })], "no name at all");
    }

    #[test]
    fn registers_do_not_mix_and_failures_say_nothing() {
        let other = at((0, 1), Outcome::Ok, Call::Look { register: 2, value: Some(0) });
        let failed = at((0, 1), Outcome::Failed, Call::Look { register: 1, value: Some(9) });
        let unknown = at((0, 1), Outcome::Unknown, Call::Look { register: 1, value: Some(9) });
        assert_eq!(verdict(vec![moved((0, 1), 0, 1), other, failed, unknown]), Ok(()));
        assert_eq!(verdict(Vec::new()), Err(CheckError::TooLittle { ok: 0 }));
    }

    #[test]
    fn running_out_of_time_is_no_pass() {
        // Many unknown renames at once, and an end that none of them explains: a long search.
        let mut operations: Vec<Operation> = (0..40)
            .flat_map(|n| [maybe((n, n), n as u32 % 7, (n as u32 + 1) % 7), maybe((n, n), 3, n as u32)])
            .collect();
        operations.push(seen((100, 101), 1_000_000));
        let checked = check(&History { operations }, Duration::from_millis(50));
        assert!(checked.is_err(), "it passed");
    }
}
