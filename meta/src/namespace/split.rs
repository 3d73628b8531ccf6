//! Splits a directory into ranges of roughly as many names, without a look at all of them: its key
//! space is halved again and again, each half drawn in to the names that are there.

use cairn_types::InodeId;

use super::error::Outcome;
use crate::keys::RowFault;
use crate::keys::nodes;
use crate::store::{KeyRange, Rows, Table};

/// Ranges in one answer, at most.
pub const PARTS_MAX: usize = 256;
/// Ranges that are looked at, at most.
const SPANS_MAX: usize = 1024;
/// A range with no more names than these is counted, not halved.
const FEW: usize = 32;

/// A range of names that are there, from the first to the last.
struct Span {
    first: Vec<u8>,
    last: Vec<u8>,
    /// How many, when they are few.
    few: Option<usize>,
    /// Its share of the names, where it has more, in parts of 2^32: halving a span halves it.
    share: u64,
}

/// Names that divide a directory into `parts` ranges of roughly as many names, ascending: a range
/// goes from after one up to the next, that one included. Fewer where there are few names.
///
/// # Errors
/// A fault of the store.
pub fn split(rows: &dyn Rows, directory: InodeId, parts: usize) -> Outcome<Vec<Vec<u8>>> {
    let parts = parts.clamp(1, PARTS_MAX);
    let range = nodes::all(directory);
    let until = range.until.unwrap_or_default();
    let ends = (first_from(rows, directory, b"")?, rows.last_before(Table::Nodes, &range.from, &until)?);
    let (Some(first), Some((last, _))) = ends else { return Ok(Vec::new()) };
    let mut spans = vec![span(rows, directory, first, nodes::name(&last).to_vec(), 1 << 32)?];
    while spans.len() < SPANS_MAX {
        let large = spans.iter().enumerate().filter(|(_, s)| s.few.is_none() && s.share > 1);
        let Some((at, whole)) = large.max_by_key(|(_, s)| s.share) else { break };
        let Some([left, right]) = halve(rows, directory, whole)? else { break };
        drop(spans.splice(at..=at, [left, right]));
    }
    Ok(cuts(&spans, parts))
}

/// The first name that is not smaller.
fn first_from(rows: &dyn Rows, directory: InodeId, name: &[u8]) -> Result<Option<Vec<u8>>, RowFault> {
    let range = KeyRange { from: nodes::key(directory, name), ..nodes::all(directory) };
    let found = rows.scan(Table::Nodes, &range, 1)?;
    Ok(found.first().map(|(key, _)| nodes::name(key).to_vec()))
}

fn span(
    rows: &dyn Rows,
    directory: InodeId,
    first: Vec<u8>,
    last: Vec<u8>,
    share: u64,
) -> Result<Span, RowFault> {
    let until = [nodes::key(directory, &last).as_slice(), &[0]].concat();
    let range = KeyRange { from: nodes::key(directory, &first), until: Some(until) };
    let count = rows.scan(Table::Nodes, &range, FEW + 1)?.len();
    Ok(Span { first, last, few: (count <= FEW).then_some(count), share })
}

/// Both halves of a span of several names. One that has few names leaves the other the whole share.
fn halve(rows: &dyn Rows, directory: InodeId, whole: &Span) -> Result<Option<[Span; 2]>, RowFault> {
    let middle = middle(&whole.first, &whole.last);
    let (from, before) = (nodes::key(directory, &whole.first), nodes::key(directory, &middle));
    let left = rows.last_before(Table::Nodes, &from, &before)?;
    let (Some((left, _)), Some(right)) = (left, first_from(rows, directory, &middle)?) else {
        return Ok(None);
    };
    let half = whole.share / 2;
    let mut left = span(rows, directory, whole.first.clone(), nodes::name(&left).to_vec(), half)?;
    let mut right = span(rows, directory, right, whole.last.clone(), half)?;
    match (left.few, right.few) {
        (Some(_), None) => right.share = whole.share,
        (None, Some(_)) => left.share = whole.share,
        _ => {}
    }
    Ok(Some([left, right]))
}

/// What lies half-way between two names, as numbers: greater than the first, not greater than the
/// last.
fn middle(first: &[u8], last: &[u8]) -> Vec<u8> {
    let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    let number = |name: &[u8]| {
        let mut bytes = [0; 8];
        for (byte, of_name) in bytes.iter_mut().zip(name.iter().skip(common)) {
            *byte = *of_name;
        }
        u64::from_be_bytes(bytes)
    };
    let (low, high) = (number(first), number(last));
    let mut tail = (low + high.saturating_sub(low).div_ceil(2)).to_be_bytes().to_vec();
    while tail.last() == Some(&0) {
        tail.pop();
    }
    [first.iter().take(common).copied().collect(), tail].concat()
}

/// The last names of the ranges, by how many names are guessed to lie in each span.
fn cuts(spans: &[Span], parts: usize) -> Vec<Vec<u8>> {
    let smallest = spans.iter().filter(|s| s.few.is_none()).map(|s| s.share).min().unwrap_or(1).max(1);
    let guess = |s: &Span| s.few.map_or(2 * FEW as u64 * (s.share / smallest), |few| few as u64);
    let total: u64 = spans.iter().map(guess).sum();
    let (mut names, mut seen) = (Vec::new(), 0);
    for (n, span) in spans.iter().enumerate() {
        seen += guess(span);
        let cut = seen * parts as u64 >= total * (names.len() as u64 + 1);
        if cut && n + 1 < spans.len() && names.len() + 1 < parts {
            names.push(span.last.clone());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Change, MemoryStore, Store, WriteBatch};

    /// How many of these names each range has.
    fn counts(names: &[String], parts: usize) -> Vec<usize> {
        let store = MemoryStore::new();
        let mut batch = WriteBatch::default();
        for (directory, name) in [(4, "a"), (6, "z")] {
            let key = nodes::key(InodeId(directory), name.as_bytes());
            batch.push(Change { table: Table::Nodes, key, value: Some(Vec::new()) });
        }
        for name in names {
            let key = nodes::key(InodeId(5), name.as_bytes());
            batch.push(Change { table: Table::Nodes, key, value: Some(Vec::new()) });
        }
        store.write(batch).unwrap();
        let cuts = split(&store, InodeId(5), parts).unwrap();
        assert!(cuts.is_sorted() && cuts.len() < parts.max(1));
        let mut sorted: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
        sorted.sort_unstable();
        let mut from = 0;
        let mut counts = Vec::new();
        for cut in &cuts {
            let end = sorted.partition_point(|name| *name <= cut.as_slice());
            counts.push(end - from);
            from = end;
        }
        counts.push(sorted.len() - from);
        counts
    }

    #[track_caller]
    fn roughly_even(names: &[String], parts: usize) {
        let counts = counts(names, parts);
        assert_eq!(counts.len(), parts);
        assert_eq!(counts.iter().sum::<usize>(), names.len());
        let (least, most) = (names.len() / parts / 3, names.len() / parts * 2);
        assert!(counts.iter().all(|n| (least..=most).contains(n)), "{counts:?}");
    }

    #[test]
    fn names_of_every_kind_are_divided_roughly_evenly() {
        roughly_even(&(0..20_000).map(|n| format!("file-{n:09}")).collect::<Vec<_>>(), 4);
        roughly_even(
            &(0..20_000).map(|n| format!("{:08x}", n * 2_654_435_761u64 % (1 << 32))).collect::<Vec<_>>(),
            8,
        );
        let mut skewed: Vec<String> = (0..20_000).map(|n| format!("log.2026-11-27.{n}")).collect();
        skewed.extend(["A", "README", "zebra", "~"].map(str::to_owned));
        roughly_even(&skewed, 3);
    }

    #[test]
    fn a_directory_of_few_names_or_none_is_one_range() {
        assert_eq!(counts(&[], 4), [0]);
        assert_eq!(counts(&["a".to_owned()], 4), [1]);
        assert_eq!(counts(&(0..32).map(|n| n.to_string()).collect::<Vec<_>>(), 4), [32]);
        assert_eq!(counts(&(0..5_000).map(|n| n.to_string()).collect::<Vec<_>>(), 1), [5_000]);
    }

    #[test]
    fn the_middle_lies_between() {
        for (first, last) in
            [("a", "b"), ("a", "a0"), ("a", "aa"), ("file-0", "file-9"), ("x", "y\u{7f}"), ("ab", "b")]
        {
            let middle = middle(first.as_bytes(), last.as_bytes());
            assert!(
                first.as_bytes() < middle.as_slice() && middle.as_slice() <= last.as_bytes(),
                "{first} {last} {middle:?}"
            );
        }
    }
}
