//! Appends: every acknowledged record is in the file once, at its offset; an unknown one at most
//! once; a refused one not; the file is whole records from its first byte to its last; and a
//! record that was acknowledged before another was submitted lies before it.

use std::collections::HashMap;

use cairn_tests::cluster::Found;

use super::CheckError;
use crate::history::{Call, History, Operation, Outcome};

fn violation<T>(text: String) -> Result<T, CheckError> {
    Err(CheckError::Violation(text))
}

/// Checks what is recorded of one file against the records found in it at the end.
///
/// # Errors
/// [`CheckError`].
pub fn check(history: &History, file: u32, found: &[Found]) -> Result<(), CheckError> {
    let mut asked: HashMap<(u32, u64), (&Operation, u64, Option<u64>)> = HashMap::new();
    let mut ok = 0;
    for operation in &history.operations {
        let Call::Append { file: of, writer, number, length, offset } = &operation.call else { continue };
        if *of != file {
            continue;
        }
        ok += usize::from(operation.outcome == Outcome::Ok);
        if asked.insert((*writer, *number), (operation, *length, *offset)).is_some() {
            return violation(format!(
                "file {file}: {writer}/{number} was submitted twice: a fault of the workload"
            ));
        }
    }
    if ok == 0 {
        return Err(CheckError::TooLittle { ok });
    }
    no_gaps(file, found)?;
    let mut places: HashMap<(u32, u64), u64> = HashMap::new();
    for one in found {
        let Some((operation, length, _)) = asked.get(&(one.writer, one.number)) else {
            return violation(format!("file {file}: nobody submitted {one:?}"));
        };
        if operation.outcome == Outcome::Failed {
            return violation(format!("file {file}: {one:?} is there and was refused"));
        }
        if *length != one.length as u64 {
            return violation(format!("file {file}: {one:?} was submitted with {length} bytes"));
        }
        if let Some(first) = places.insert((one.writer, one.number), one.offset) {
            return violation(format!("file {file}: {one:?} is there twice, first at {first}"));
        }
    }
    for ((writer, number), (operation, _, offset)) in &asked {
        if operation.outcome != Outcome::Ok {
            continue;
        }
        let place = places.get(&(*writer, *number)).copied();
        if place.is_none() || place != *offset {
            return violation(format!(
                "file {file}: {writer}/{number} was acknowledged at {offset:?}, is at {place:?}"
            ));
        }
    }
    real_time_order(file, &asked, &places)
}

fn no_gaps(file: u32, found: &[Found]) -> Result<(), CheckError> {
    let mut end = 0;
    for one in found {
        if one.offset != end {
            return violation(format!(
                "file {file}: {one:?} does not begin at {end}, where the one before ends"
            ));
        }
        end += one.length as u64;
    }
    Ok(())
}

/// What was acknowledged before something else was submitted must lie before it.
fn real_time_order(
    file: u32,
    asked: &HashMap<(u32, u64), (&Operation, u64, Option<u64>)>,
    places: &HashMap<(u32, u64), u64>,
) -> Result<(), CheckError> {
    let there = asked.iter().filter_map(|(id, (operation, ..))| Some((*places.get(id)?, *operation)));
    let mut in_place: Vec<(u64, &Operation)> = there.collect();
    in_place.sort_by_key(|(offset, _)| *offset);
    // Going back from the end: nothing may have been called after something behind it had returned.
    let mut earliest_return = u64::MAX;
    let mut whose = None;
    for (offset, operation) in in_place.into_iter().rev() {
        if operation.called_ns > earliest_return {
            return violation(format!(
                "file {file}: {:?} was submitted after {whose:?} had been acknowledged, and lies before it at {offset}",
                operation.call
            ));
        }
        if operation.outcome == Outcome::Ok && operation.returned_ns < earliest_return {
            earliest_return = operation.returned_ns;
            whose = Some(&operation.call);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: u64 = 50;

    fn append(number: u64, times: (u64, u64), outcome: Outcome, offset: Option<u64>) -> Operation {
        let call = Call::Append { file: 1, writer: 7, number, length: LENGTH, offset };
        Operation { process: 0, called_ns: times.0, returned_ns: times.1, outcome, call }
    }

    /// Records with these numbers, one after the other.
    fn file(numbers: &[u64]) -> Vec<Found> {
        let at = |(n, number): (usize, &u64)| Found {
            offset: n as u64 * LENGTH,
            writer: 7,
            number: *number,
            length: LENGTH as usize,
        };
        numbers.iter().enumerate().map(at).collect()
    }

    /// 1 and 2 acknowledged, 3 unknown, 4 refused.
    fn history() -> History {
        History {
            operations: vec![
                append(1, (0, 10), Outcome::Ok, Some(0)),
                append(2, (20, 30), Outcome::Ok, Some(LENGTH)),
                append(3, (40, 50), Outcome::Unknown, None),
                append(4, (60, 70), Outcome::Failed, None),
            ],
        }
    }

    fn caught(found: &[Found], what: &str) {
        let checked = check(&history(), 1, found);
        assert!(matches!(checked, Err(CheckError::Violation(_))), "{what}: {checked:?}");
    }

    #[test]
    fn a_good_file_passes_with_and_without_the_unknown_one() {
        assert_eq!(check(&history(), 1, &file(&[1, 2])), Ok(()));
        assert_eq!(check(&history(), 1, &file(&[1, 2, 3])), Ok(()));
    }

    #[test]
    fn planted_faults_are_caught() {
        caught(&file(&[1]), "an acknowledged record is missing");
        caught(&[], "everything is missing");
        caught(&file(&[1, 2, 2]), "one is there twice");
        caught(&file(&[1, 2, 3, 3]), "an unknown one is there twice");
        caught(&file(&[2, 1]), "two changed places");
        caught(&file(&[1, 2, 4]), "a refused one is there");
        caught(&file(&[1, 2, 9]), "one that nobody submitted is there");
        let mut gap = file(&[1, 2, 3]);
        gap[2].offset += 8;
        caught(&gap, "a gap");
        let mut short = file(&[1, 2]);
        short[1].length -= 1;
        caught(&short, "a record is shorter than it was");
    }

    #[test]
    fn an_unknown_one_may_not_lie_before_what_was_acknowledged_earlier() {
        // 3 was submitted after 1 was acknowledged: it cannot lie before it.
        let operations =
            vec![append(1, (0, 10), Outcome::Ok, Some(LENGTH)), append(3, (40, 50), Outcome::Unknown, None)];
        let checked = check(&History { operations }, 1, &file(&[3, 1]));
        assert!(matches!(checked, Err(CheckError::Violation(_))), "{checked:?}");
    }

    #[test]
    fn a_run_without_any_success_is_no_pass() {
        let operations = vec![append(3, (40, 50), Outcome::Unknown, None)];
        let checked = check(&History { operations }, 1, &[]);
        assert_eq!(checked, Err(CheckError::TooLittle { ok: 0 }));
    }
}
