//! [`Ahead`]: who reads in order, or at equal steps, and what to fetch ahead of them.

use std::collections::HashMap;

use super::BLOCK_BYTES;

/// Readers remembered, at most; the one silent for longest is forgotten.
const READERS_MAX: usize = 1024;
/// Blocks fetched ahead of a reader, at most.
const WINDOW_BLOCKS_MAX: u64 = 8;

/// The longest step of a reader who reads at equal steps.
const STEP_BYTES_MAX: u64 = 256 << 20;
/// Steps of the same length, one after the other, from which on the next are expected.
const STEPS_SEEN: u32 = 2;
/// Steps fetched ahead of such a reader, at most.
const STEPS_AHEAD: u64 = 4;

/// How far behind the last frame of a run one may be that belongs to the same read.
const LATE_BYTES_MAX: u64 = 4 << 20;

/// What a reader will ask for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forecast {
    /// Nobody knows.
    Nothing,
    /// So many blocks after the end of this read.
    Run {
        /// How many.
        blocks: u64,
    },
    /// Runs of this length, so far apart, the next of them at `next`.
    Steps {
        /// Where the next begins.
        next: u64,
        /// How far one begins after the other.
        step: u64,
        /// Bytes of each.
        bytes: u64,
    },
}

impl Forecast {
    /// The blocks to fetch after a read that ended at `end`: those needed first, first.
    pub(super) fn blocks(self, end: u64) -> Vec<u64> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Run { blocks } => {
                let next = end.div_ceil(BLOCK_BYTES);
                (next..next.saturating_add(blocks)).collect()
            }
            Self::Steps { next, step, bytes } => {
                let starts = (0..STEPS_AHEAD).map_while(|n| next.checked_add(step.checked_mul(n)?));
                let of = |start: u64| start / BLOCK_BYTES..start.saturating_add(bytes).div_ceil(BLOCK_BYTES);
                let mut blocks: Vec<u64> = starts.flat_map(of).take(WINDOW_BLOCKS_MAX as usize).collect();
                blocks.dedup();
                blocks
            }
        }
    }
}

/// A run is what is read without a gap; it may come in several frames, not quite in order.
#[derive(Clone, Copy)]
struct Reader {
    start: u64,
    end: u64,
    window: u64,
    /// Where the run began, and how long the one before it was.
    run: u64,
    run_bytes: u64,
    /// How far the run began after the one before it, and how often in a row that was as far.
    step: u64,
    steps: u32,
    seen: u64,
}

/// The last reads of the objects read lately.
#[derive(Default)]
pub(super) struct Ahead {
    readers: HashMap<u128, Reader>,
    reads: u64,
}

impl Ahead {
    /// Notes a read of `[start, end)` of an object; answers what to fetch: nothing for one who jumps about,
    /// then 2, 4, 8 blocks for one who goes on where the last read ended, and the next steps of one who
    /// jumps as far each time.
    pub(super) fn note(&mut self, object: u128, start: u64, end: u64) -> Forecast {
        self.reads += 1;
        let known = self.readers.get(&object).copied();
        let (reader, forecast) = match known {
            Some(last) => last.goes_on(start, end),
            None => Reader::begins(start, end),
        };
        if known.is_none() && self.readers.len() >= READERS_MAX {
            let silent = self.readers.iter().min_by_key(|(_, reader)| reader.seen).map(|(id, _)| *id);
            if let Some(silent) = silent {
                self.readers.remove(&silent);
            }
        }
        self.readers.insert(object, Reader { seen: self.reads, ..reader });
        forecast
    }
}

impl Reader {
    fn begins(start: u64, end: u64) -> (Self, Forecast) {
        let window = if start == 0 { 2 } else { 0 };
        let reader = Self { start, end, window, run: start, run_bytes: 0, step: 0, steps: 0, seen: 0 };
        (reader, Forecast::run(window))
    }

    fn goes_on(self, start: u64, end: u64) -> (Self, Forecast) {
        // Several frames of one read are asked for at once, and need not come in order.
        if start >= self.start && start <= self.end + BLOCK_BYTES && end > self.end {
            let within_a_step = self.steps >= STEPS_SEEN && end <= self.run.saturating_add(self.run_bytes);
            if within_a_step {
                return (Self { start, end, ..self }, Forecast::Nothing);
            }
            let window = (self.window * 2).clamp(2, WINDOW_BLOCKS_MAX);
            return (Self { start, end, window, ..self }, Forecast::run(window));
        }
        let is_late = start >= self.run && start < self.start && end <= self.end;
        if is_late && self.start - start <= LATE_BYTES_MAX {
            return (self, Forecast::Nothing);
        }
        if start >= self.start && end <= self.end {
            let forecast =
                if self.steps >= STEPS_SEEN { Forecast::Nothing } else { Forecast::run(self.window) };
            return (Self { start, end, ..self }, forecast);
        }
        let step = start.checked_sub(self.run).filter(|step| *step <= STEP_BYTES_MAX).unwrap_or(0);
        let steps = match step {
            0 => 0,
            step if step == self.step => self.steps.saturating_add(1),
            _ => 1,
        };
        let run_bytes = (self.end - self.run).max(end - start);
        let reader = Self { start, end, window: 0, run: start, run_bytes, step, steps, seen: 0 };
        if steps < STEPS_SEEN {
            return (reader, Forecast::Nothing);
        }
        let forecast = match start.checked_add(step) {
            Some(next) => Forecast::Steps { next, step, bytes: run_bytes },
            None => Forecast::Nothing,
        };
        (reader, forecast)
    }
}

impl Forecast {
    fn run(blocks: u64) -> Self {
        if blocks == 0 { Self::Nothing } else { Self::Run { blocks } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn run(blocks: u64) -> Forecast {
        Forecast::Run { blocks }
    }

    #[test]
    fn who_reads_in_order_is_read_ahead_for() {
        let mut ahead = Ahead::default();
        let windows: Vec<Forecast> = (0..5).map(|n| ahead.note(1, n * MIB, (n + 1) * MIB)).collect();
        assert_eq!(windows, [2, 4, 8, 8, 8].map(run));
        assert_eq!(windows[4].blocks(5 * MIB), [5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(ahead.note(1, 100 * MIB, 101 * MIB), Forecast::Nothing, "a jump");
        assert_eq!(ahead.note(1, 101 * MIB, 102 * MIB), run(2), "and on from there");
        assert_eq!(ahead.note(2, 7 * MIB, 8 * MIB), Forecast::Nothing, "a first read in the middle");
    }

    #[test]
    fn who_reads_at_equal_steps_has_the_next_ones_fetched() {
        let mut ahead = Ahead::default();
        let mut reads = |at_mib: u64| ahead.note(1, at_mib * MIB, at_mib * MIB + 4096);
        assert_eq!(reads(10), Forecast::Nothing);
        assert_eq!(reads(30), Forecast::Nothing, "one step says nothing");
        let steps = reads(50);
        assert_eq!(steps, Forecast::Steps { next: 70 * MIB, step: 20 * MIB, bytes: 4096 });
        assert_eq!(steps.blocks(50 * MIB + 4096), [70, 90, 110, 130]);
        assert_eq!(reads(70), Forecast::Steps { next: 90 * MIB, step: 20 * MIB, bytes: 4096 });
        assert_eq!(reads(91), Forecast::Nothing, "another step");
        assert_eq!(reads(20), Forecast::Nothing, "backwards");
        assert_eq!(reads(20 + 300), Forecast::Nothing);
        assert_eq!(reads(20 + 600), Forecast::Nothing, "steps that are too long");
    }

    #[test]
    fn a_step_of_several_frames_is_fetched_whole_and_no_further() {
        let mut ahead = Ahead::default();
        let mut last = Forecast::Nothing;
        for step in 0..4u64 {
            // The second and third frame change places.
            for frame in [0, 2, 1] {
                let at = (step * 50 + frame) * MIB;
                let forecast = ahead.note(1, at, at + MIB);
                if frame == 0 {
                    last = forecast;
                } else if step >= 2 {
                    assert_eq!(forecast, Forecast::Nothing, "what lies between the steps is not wanted");
                }
            }
        }
        assert_eq!(last, Forecast::Steps { next: 200 * MIB, step: 50 * MIB, bytes: 3 * MIB });
        assert_eq!(last.blocks(151 * MIB), [200, 201, 202, 250, 251, 252, 300, 301], "bounded");
    }

    #[test]
    fn short_steps_within_a_block_ask_for_it_once() {
        let steps = Forecast::Steps { next: 5 * MIB, step: MIB / 4, bytes: 100 };
        assert_eq!(steps.blocks(0), [5]);
        let at_the_end = Forecast::Steps { next: u64::MAX - 10, step: 100, bytes: 100 };
        assert!(at_the_end.blocks(0).len() <= WINDOW_BLOCKS_MAX as usize);
    }

    #[test]
    fn readers_are_bounded() {
        let mut ahead = Ahead::default();
        for object in 0..5_000 {
            ahead.note(object, 0, MIB);
        }
        assert_eq!(ahead.readers.len(), READERS_MAX);
        assert_eq!(ahead.note(4_999, MIB, 2 * MIB), run(4), "the latest is remembered");
    }
}
