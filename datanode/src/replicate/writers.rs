//! [`Writers`]: which appends of which writer a chunk has taken, so that a repeated one is
//! answered and not taken again (rules R2, R10).

use std::collections::{HashMap, VecDeque};

use cairn_types::limits::WRITERS_PER_FILE_MAX;
use cairn_types::{Sequence, WriterId, WriterMark};

/// Appends of one chunk that are remembered for their retries. A client has far fewer unanswered.
const REMEMBERED_MAX: usize = 1 << 16;

/// Where an append lies in the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first byte.
    pub offset: u64,
    /// The byte after its last.
    pub end: u64,
}

/// What a writer's sequence means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is the writer's next.
    Next,
    /// It was taken, and lies there.
    Repeated(Span),
    /// It is not the next: that one is.
    Gap(Sequence),
    /// The file has as many writers as it may.
    TooMany,
}

/// The appends taken from each writer of one chunk.
#[derive(Debug, Default)]
pub struct Writers {
    writers: HashMap<WriterId, Taken>,
    // One entry for each span remembered, oldest first.
    order: VecDeque<WriterId>,
}

#[derive(Debug)]
struct Taken {
    // The last sequence before `spans`: of an earlier chunk, or no longer remembered.
    before: Sequence,
    spans: VecDeque<Span>,
    last: Option<Span>,
}

impl Taken {
    fn next(&self) -> Sequence {
        Sequence(self.before.0.saturating_add(self.spans.len() as u64).saturating_add(1))
    }
}

impl Writers {
    /// Starts with the last sequences that the activation carried in (R1).
    #[must_use]
    pub fn carried(marks: &[WriterMark]) -> Self {
        let taken = |mark: &WriterMark| Taken { before: mark.sequence, spans: VecDeque::new(), last: None };
        let writers = marks.iter().map(|mark| (mark.writer, taken(mark))).collect();
        Self { writers, order: VecDeque::new() }
    }

    /// What `sequence` of `writer` means here. Changes nothing.
    #[must_use]
    pub fn turn(&self, writer: WriterId, sequence: Sequence) -> Turn {
        let Some(taken) = self.writers.get(&writer) else {
            return match sequence {
                Sequence(1) if self.writers.len() >= WRITERS_PER_FILE_MAX => Turn::TooMany,
                Sequence(1) => Turn::Next,
                _ => Turn::Gap(Sequence(1)),
            };
        };
        let next = taken.next();
        if sequence == next {
            return Turn::Next;
        }
        let at = sequence.0.checked_sub(taken.before.0.saturating_add(1));
        let span = at.and_then(|at| taken.spans.get(usize::try_from(at).ok()?));
        span.map_or(Turn::Gap(next), |span| Turn::Repeated(*span))
    }

    /// Records that the writer's next append lies at `span`.
    pub fn take(&mut self, writer: WriterId, span: Span) {
        let fresh = || Taken { before: Sequence(0), spans: VecDeque::new(), last: None };
        let taken = self.writers.entry(writer).or_insert_with(fresh);
        taken.spans.push_back(span);
        taken.last = Some(span);
        self.order.push_back(writer);
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
            && let Some(taken) = self.writers.get_mut(&oldest)
            && taken.spans.pop_front().is_some()
        {
            taken.before = taken.before.next();
        }
    }

    /// The last sequence of `writer` that lies below `committed`.
    #[must_use]
    pub fn decided(&self, writer: WriterId, committed: u64) -> Sequence {
        let Some(taken) = self.writers.get(&writer) else { return Sequence(0) };
        let below = taken.spans.iter().rev().skip_while(|span| span.end > committed).count();
        Sequence(taken.before.0.saturating_add(below as u64))
    }

    /// The last sequence of each writer that wrote in this chunk; offsets are the file's, in which
    /// the chunk begins at `base`.
    #[must_use]
    pub fn marks(&self, base: u64) -> Vec<WriterMark> {
        let mark = |(writer, taken): (&WriterId, &Taken)| {
            let sequence = Sequence(taken.next().0.saturating_sub(1));
            let offset = base.saturating_add(taken.last?.offset);
            Some(WriterMark { writer: *writer, sequence, offset })
        };
        let mut marks: Vec<WriterMark> = self.writers.iter().filter_map(mark).collect();
        marks.sort_unstable();
        marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const W: WriterId = WriterId(7);

    fn span(n: u64) -> Span {
        Span { offset: n * 10, end: n * 10 + 10 }
    }

    #[test]
    fn sequences_are_taken_without_gaps_and_repeats_are_found() {
        let mut writers = Writers::default();
        assert_eq!(writers.turn(W, Sequence(2)), Turn::Gap(Sequence(1)));
        for n in 0..3 {
            assert_eq!(writers.turn(W, Sequence(n + 1)), Turn::Next);
            writers.take(W, span(n));
        }
        assert_eq!(writers.turn(W, Sequence(2)), Turn::Repeated(span(1)));
        assert_eq!(writers.turn(W, Sequence(5)), Turn::Gap(Sequence(4)));
        assert_eq!(writers.decided(W, 25), Sequence(2));
        assert_eq!(writers.decided(W, 30), Sequence(3));
        assert_eq!(writers.marks(100), [WriterMark { writer: W, sequence: Sequence(3), offset: 120 }]);
    }

    #[test]
    fn sequences_go_on_from_the_chunk_before() {
        let mark = WriterMark { writer: W, sequence: Sequence(9), offset: 55 };
        let mut writers = Writers::carried(&[mark]);
        assert_eq!(writers.turn(W, Sequence(9)), Turn::Gap(Sequence(10)));
        assert_eq!(writers.turn(W, Sequence(10)), Turn::Next);
        assert_eq!(writers.marks(70), []);
        writers.take(W, span(0));
        assert_eq!(writers.turn(W, Sequence(10)), Turn::Repeated(span(0)));
        assert_eq!(writers.marks(70)[0].offset, 70);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut writers = Writers::default();
        for n in 0..REMEMBERED_MAX as u64 + 1 {
            writers.take(W, span(n));
        }
        let next = Sequence(REMEMBERED_MAX as u64 + 2);
        assert_eq!(writers.turn(W, Sequence(1)), Turn::Gap(next));
        assert_eq!(writers.turn(W, Sequence(2)), Turn::Repeated(span(1)));
        assert_eq!(writers.turn(W, next), Turn::Next);
    }

    #[test]
    fn a_file_has_so_many_writers_and_no_more() {
        let mut writers = Writers::default();
        for n in 0..WRITERS_PER_FILE_MAX as u64 {
            writers.take(WriterId(n), span(n));
        }
        assert_eq!(writers.turn(WriterId(9_999), Sequence(1)), Turn::TooMany);
        assert_eq!(writers.turn(WriterId(3), Sequence(2)), Turn::Next);
    }
}
