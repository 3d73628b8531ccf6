//! Counting: one run's latencies and rate, and the median of several runs.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::{Case, Unit};

/// Latencies up to a minute are told apart, to three digits.
const HIGHEST_NANOS: u64 = 60_000_000_000;

/// Counts one run.
pub struct Recorder {
    histogram: Option<Histogram<u64>>,
    started: Instant,
    count: f64,
}

/// What one run came to: latencies in µs, `rate` in the case's own unit a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub rate: f64,
}

/// One run of a case, and what was measured beside it.
pub struct Sample {
    pub run: Run,
    pub limit: Run,
    /// A gRPC echo, for the cases whose aim counts in echoes.
    pub echo: Option<Run>,
}

/// A case's result.
pub struct Measured {
    pub name: &'static str,
    pub unit: Unit,
    pub run: Run,
    pub limit_name: &'static str,
    pub limit: Run,
    pub echo: Option<Run>,
    pub ratio: f64,
}

impl Measured {
    /// The aim of a case that has an echo: p50 at most 2 × the limit + 4 × the echo, in µs.
    pub fn aim_p50(&self) -> Option<f64> {
        self.echo.map(|echo| 2.0 * self.limit.p50 + 4.0 * echo.p50)
    }
}

impl Recorder {
    /// Starts the clock.
    pub fn start() -> Self {
        Self {
            histogram: Histogram::new_with_max(HIGHEST_NANOS, 3).ok(),
            started: Instant::now(),
            count: 0.0,
        }
    }

    /// One operation took `latency` and counts `weight` towards the rate.
    pub fn record(&mut self, latency: Duration, weight: f64) {
        self.count += weight;
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(HIGHEST_NANOS).max(1));
        }
    }

    /// Takes another's counts in.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        if let (Some(histogram), Some(theirs)) = (&mut self.histogram, &other.histogram) {
            // Both have the same range, so this cannot fail.
            let _ = histogram.add(theirs);
        }
    }

    /// Stops the clock.
    pub fn finish(self) -> Run {
        let seconds = self.started.elapsed().as_secs_f64().max(1e-9);
        let at = |q: f64| self.histogram.as_ref().map_or(0.0, |h| h.value_at_quantile(q) as f64 / 1000.0);
        Run { p50: at(0.5), p99: at(0.99), p999: at(0.999), rate: self.count / seconds }
    }
}

impl Run {
    /// One line's worth.
    pub fn short(&self, unit: Unit) -> String {
        match unit {
            Unit::Micros => format!("p50 {:.0} us, p99 {:.0} us, {:.0}/s", self.p50, self.p99, self.rate),
            Unit::PerSecond => format!("{:.0}/s, p50 {:.0} us", self.rate, self.p50),
            Unit::MegabytesPerSecond => format!("{:.0} MB/s", self.rate),
            Unit::Bytes => format!("{:.0} bytes", self.rate),
        }
    }
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn middle_run(runs: &[Run]) -> Run {
    let of = |pick: fn(&Run) -> f64| middle(runs.iter().map(pick).collect());
    Run { p50: of(|r| r.p50), p99: of(|r| r.p99), p999: of(|r| r.p999), rate: of(|r| r.rate) }
}

/// The median of each figure over the runs; the ratio is the median of the runs' ratios, since
/// a run and its limit were measured under the same noise.
pub fn median(case: &Case, limit_name: &'static str, samples: &[Sample]) -> Measured {
    let fold = |pick: fn(&Sample) -> Run| middle_run(&samples.iter().map(pick).collect::<Vec<_>>());
    let echoes: Vec<Run> = samples.iter().filter_map(|s| s.echo).collect();
    let ratio = |s: &Sample| match case.unit {
        Unit::Micros => s.run.p50 / s.limit.p50,
        _ => s.run.rate / s.limit.rate,
    };
    Measured {
        name: case.name,
        unit: case.unit,
        run: fold(|s| s.run),
        limit_name,
        limit: fold(|s| s.limit),
        echo: (!echoes.is_empty()).then(|| middle_run(&echoes)),
        ratio: middle(samples.iter().map(ratio).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(p50: f64) -> Run {
        Run { p50, p99: p50, p999: p50, rate: 1e6 / p50 }
    }

    #[test]
    fn the_aim_is_twice_the_limit_and_four_echoes() {
        let case = crate::bench::cases::CASES[0];
        let sample = |p50: f64, limit: f64, echo: f64| Sample {
            run: run(p50),
            limit: run(limit),
            echo: Some(run(echo)),
        };
        let samples = [sample(900.0, 300.0, 60.0), sample(800.0, 200.0, 50.0), sample(700.0, 250.0, 40.0)];
        let measured = median(&case, "limit", &samples);
        assert_eq!((measured.run.p50, measured.limit.p50), (800.0, 250.0));
        assert_eq!(measured.aim_p50(), Some(700.0));
        assert_eq!(measured.ratio, 3.0);
        let without = [Sample { run: run(1.0), limit: run(1.0), echo: None }];
        assert_eq!(median(&case, "limit", &without).aim_p50(), None);
    }
}
