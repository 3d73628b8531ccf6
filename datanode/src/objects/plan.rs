//! [`plan`]: of which parts an object is made, so that as few bytes as possible are sent: ranges that the endpoint
//! has already are copied by it, and give bytes to what lies between them only where a part were too small.

use std::ops::Range;

use super::ObjectError;

const MIB: u64 = 1 << 20;

/// What S3 and our memory allow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of every part but the last, at least.
    pub(super) part_min: u64,
    /// Bytes of a copied part, at most.
    pub(super) copy_max: u64,
    /// Bytes of a part that is sent, at most: it is in memory.
    pub(super) send_max: u64,
    /// Parts, at most.
    pub(super) parts_max: usize,
}

/// S3's limits. (A copied part may have 5 GiB; smaller ones are copied beside one another.)
pub(super) const LIMITS: Limits =
    Limits { part_min: 5 * MIB, copy_max: 1024 * MIB, send_max: 16 * MIB, parts_max: 10_000 };
/// For objects of very many parts: what is tried beyond the above, the least size of parts and the most that is sent.
const COARSER: [(u64, u64); 3] = [(5 * MIB, 64 * MIB), (32 * MIB, 64 * MIB), (512 * MIB, 64 * MIB)];
/// States of the search that are gone on from.
const STATES_MAX: usize = 12;

/// A run of the object's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) length: u64,
    /// Where the endpoint has these bytes; `None`: they are to be sent.
    pub(super) copied: Option<CopyFrom>,
}

/// Bytes that the endpoint has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CopyFrom {
    /// The number of the source.
    pub(super) source: usize,
    /// Where the first byte is in it.
    pub(super) offset: u64,
    /// It is copied whole or not at all: S3 cuts no ranges out of small objects.
    pub(super) whole: bool,
}

/// A part of the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PlannedPart {
    /// This range of the object is sent.
    Send(Range<u64>),
    /// This range of a source is copied.
    Copy { source: usize, from: Range<u64> },
}

impl PlannedPart {
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Send(range) | Self::Copy { from: range, .. } => range.end - range.start,
        }
    }
}

/// The parts of an object, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) parts: Vec<PlannedPart>,
}

impl Plan {
    /// Bytes that are sent.
    pub(super) fn sent(&self) -> u64 {
        let sent = self.parts.iter().filter(|part| matches!(part, PlannedPart::Send(_)));
        sent.map(PlannedPart::length).sum()
    }

    /// Bytes that the endpoint copies.
    pub(super) fn copied(&self) -> u64 {
        let copied = self.parts.iter().filter(|part| matches!(part, PlannedPart::Copy { .. }));
        copied.map(PlannedPart::length).sum()
    }
}

/// The parts of an object of these stretches.
///
/// # Errors
/// [`ObjectError::TooManyParts`] when S3 could not put together so many bytes that are to be sent.
pub(super) fn plan(stretches: &[Stretch]) -> Result<Plan, ObjectError> {
    let stretches = joined(stretches);
    let coarser = COARSER.map(|(part_min, send_max)| Limits { part_min, send_max, ..LIMITS });
    for limits in [LIMITS].into_iter().chain(coarser) {
        let plan = plan_within(&stretches, &limits);
        if plan.parts.len() <= limits.parts_max {
            return Ok(plan);
        }
    }
    Err(ObjectError::TooManyParts)
}

/// Stretches that follow on one another, made one.
fn joined(stretches: &[Stretch]) -> Vec<Stretch> {
    let mut joined: Vec<Stretch> = Vec::with_capacity(stretches.len());
    for stretch in stretches.iter().filter(|stretch| stretch.length > 0) {
        let goes_on = joined.last_mut().filter(|last| match (last.copied, stretch.copied) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                !a.whole && !b.whole && a.source == b.source && a.offset + last.length == b.offset
            }
            _ => false,
        });
        match goes_on {
            Some(last) => last.length += stretch.length,
            None => joined.push(*stretch),
        }
    }
    joined
}

/// What is done with a stretch.
#[derive(Clone, Copy, Debug)]
enum Choice {
    Send,
    /// Copied, but for so many bytes at its head; so many at the end of the copy before are sent as well.
    Copy {
        left: u64,
        right: u64,
    },
}

/// How the stretches so far may be dealt with.
#[derive(Clone, Copy, Debug)]
struct State {
    /// Bytes that are sent.
    sent: u64,
    /// Bytes that are being sent at its end, as far as it matters; 0: a copy ends there.
    open: u64,
    /// Bytes that the last copy can still give.
    spare: u64,
    /// The step that leads here.
    step: usize,
}

impl State {
    /// Whatever can be gone on with from `other` can from here, as cheaply.
    fn is_as_good_as(&self, other: &Self) -> bool {
        let alike = (self.open == 0) == (other.open == 0);
        alike && self.sent <= other.sent && self.open >= other.open && self.spare >= other.spare
    }
}

struct Step {
    before: usize,
    choice: Choice,
}

/// No step: the beginning.
const BEGINNING: usize = usize::MAX;

/// The search, stretch by stretch.
fn plan_within(stretches: &[Stretch], limits: &Limits) -> Plan {
    let mut steps: Vec<Step> = Vec::new();
    let mut states = vec![State { sent: 0, open: 0, spare: 0, step: BEGINNING }];
    for (n, stretch) in stretches.iter().enumerate() {
        let last = n + 1 == stretches.len();
        let mut next: Vec<State> = Vec::new();
        for state in &states {
            for (reached, choice) in choices(state, stretch, last, limits) {
                if next.iter().any(|other| other.is_as_good_as(&reached)) {
                    continue;
                }
                next.retain(|other| !reached.is_as_good_as(other));
                next.push(State { step: steps.len(), ..reached });
                steps.push(Step { before: state.step, choice });
            }
        }
        next.sort_by_key(|state| state.sent);
        next.truncate(STATES_MAX);
        states = next;
    }
    // The first is the cheapest; without stretches there is the beginning alone.
    let mut step = states.first().map_or(BEGINNING, |state| state.step);
    let mut chosen = Vec::with_capacity(stretches.len());
    while let Some(Step { before, choice }) = steps.get(step) {
        chosen.push(*choice);
        step = *before;
    }
    chosen.reverse();
    split(laid_out(stretches, &chosen), limits)
}

fn choices(
    state: &State,
    stretch: &Stretch,
    last: bool,
    limits: &Limits,
) -> impl Iterator<Item = (State, Choice)> {
    let (min, length) = (limits.part_min, stretch.length);
    let open = (state.open + length).min(min);
    let sent = (State { sent: state.sent + length, open, ..*state }, Choice::Send);
    let copied = stretch.copied.and_then(|from| {
        let lacking = if state.open == 0 { 0 } else { min - state.open.min(min) };
        let left = lacking.min(state.spare);
        let right = lacking - left;
        let kept = length.checked_sub(right).filter(|kept| *kept >= if last { 1 } else { min })?;
        if from.whole && right > 0 {
            return None;
        }
        let spare = if from.whole { 0 } else { kept.saturating_sub(min).min(min) };
        let reached = State { sent: state.sent + lacking, open: 0, spare, ..*state };
        Some((reached, Choice::Copy { left, right }))
    });
    copied.into_iter().chain([sent])
}

/// The ranges that are sent and copied by turns.
fn laid_out(stretches: &[Stretch], chosen: &[Choice]) -> Vec<PlannedPart> {
    let mut runs: Vec<PlannedPart> = Vec::new();
    let (mut at, mut sent_from) = (0, 0);
    for (stretch, choice) in stretches.iter().zip(chosen) {
        if let (Choice::Copy { left, right }, Some(from)) = (choice, stretch.copied) {
            if let Some(PlannedPart::Copy { from: before, .. }) = runs.last_mut() {
                before.end -= left;
                sent_from -= left;
            }
            if sent_from < at + right {
                runs.push(PlannedPart::Send(sent_from..at + right));
            }
            let range = from.offset + right..from.offset + stretch.length;
            runs.push(PlannedPart::Copy { source: from.source, from: range });
            sent_from = at + stretch.length;
        }
        at += stretch.length;
    }
    if sent_from < at {
        runs.push(PlannedPart::Send(sent_from..at));
    }
    runs
}

/// The runs cut into parts, evenly, so that none is too small.
fn split(runs: Vec<PlannedPart>, limits: &Limits) -> Plan {
    let mut parts = Vec::with_capacity(runs.len());
    for run in runs {
        match run {
            PlannedPart::Send(range) => parts.extend(evenly(&range, limits.send_max).map(PlannedPart::Send)),
            PlannedPart::Copy { source, from } => {
                let cut = evenly(&from, limits.copy_max);
                parts.extend(cut.map(|from| PlannedPart::Copy { source, from }));
            }
        }
    }
    Plan { parts }
}

fn evenly(range: &Range<u64>, max: u64) -> impl Iterator<Item = Range<u64>> + use<> {
    let (start, length) = (range.start, range.end - range.start);
    let count = length.div_ceil(max);
    let edge = move |n: u64| start + (u128::from(length) * u128::from(n) / u128::from(count)) as u64;
    (0..count).map(move |n| edge(n)..edge(n + 1))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
