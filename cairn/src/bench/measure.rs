//! Counting: one run's latencies and rate, and the median of several runs beside their aim.

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
    /// What the rate counts, in all.
    pub count: f64,
}

/// One run of a case, and what was measured beside it.
pub struct Sample {
    pub run: Run,
    pub limit: Run,
    /// Another measure of the same moment, for the cases whose aim counts in it.
    pub beside: Option<Beside>,
}

/// A measure of the same moment with its name: a gRPC echo, a TCP round trip.
pub type Beside = (&'static str, Run);

/// A case's result.
pub struct Measured {
    pub name: &'static str,
    pub unit: Unit,
    pub run: Run,
    pub limit_name: &'static str,
    pub limit: Run,
    pub beside: Option<Beside>,
    pub aim: Option<Aim>,
    pub ratio: f64,
}

/// What a case shall reach, counted in what was measured in the same run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    /// p50 at most `limit` × the limit's + `beside` × the other measure's + `more_us`, in µs.
    Latency { limit: f64, beside: f64, more_us: f64 },
    /// Such a p50, and a p99 of at most `spread` × the p50 that was measured.
    LatencySpread { limit: f64, beside: f64, spread: f64 },
    /// A rate of `limit` × the limit's at least, or of `enough` if that is less.
    Rate { limit: f64, enough: f64 },
    /// A rate of `limit` × the limit's at least, and above the other measure's.
    RateAbove { limit: f64 },
    /// A rate of this at least, whatever the limit is.
    RateAlone(f64),
    /// No more than the limit, which is the aim itself.
    Limit,
}

/// An aim held against a result.
pub struct Verdict {
    /// How the aim is counted.
    pub text: String,
    /// What it comes to, in the case's unit.
    pub value: f64,
    pub met: bool,
}

impl Measured {
    /// What came of the aim, if the case has one.
    pub fn verdict(&self) -> Option<Verdict> {
        let aim = self.aim?;
        let (name, beside) = self.beside.unwrap_or(("", Run::default()));
        let latency = |of_limit: f64, of_beside: f64, more: f64| {
            let mut terms = vec![format!("{of_limit} x the limit")];
            terms.extend((of_beside > 0.0).then(|| format!("{of_beside} x {name}")));
            terms.extend((more > 0.0).then(|| format!("{more} us")));
            let value = of_limit * self.limit.p50 + of_beside * beside.p50 + more;
            (format!("p50 <= {}", terms.join(" + ")), value, self.run.p50 <= value)
        };
        let (text, value, met) = match aim {
            Aim::Latency { limit, beside, more_us } => latency(limit, beside, more_us),
            Aim::LatencySpread { limit, beside, spread } => {
                let (text, value, met) = latency(limit, beside, 0.0);
                let near = self.run.p99 <= spread * self.run.p50;
                (format!("{text}, and p99 <= {spread} x p50"), value, met && near)
            }
            Aim::Rate { limit, enough } => {
                let value = (limit * self.limit.rate).min(enough);
                let most = if enough.is_finite() { format!(", or {enough} if less") } else { String::new() };
                (format!("rate >= {limit} x the limit's{most}"), value, self.run.rate >= value)
            }
            Aim::RateAbove { limit } => {
                let value = (limit * self.limit.rate).max(beside.rate);
                (format!("rate >= {limit} x the limit's, and above {name}"), value, self.run.rate >= value)
            }
            Aim::RateAlone(value) => ("rate".to_owned(), value, self.run.rate >= value),
            Aim::Limit => match self.unit {
                Unit::Micros => ("p50".to_owned(), self.limit.p50, self.run.p50 <= self.limit.p50),
                _ => ("at most".to_owned(), self.limit.rate, self.run.rate <= self.limit.rate),
            },
        };
        Some(Verdict { text, value, met })
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
        Run { p50: at(0.5), p99: at(0.99), p999: at(0.999), rate: self.count / seconds, count: self.count }
    }
}

impl Run {
    /// A run of one thing that took so long.
    pub fn of(took: Duration) -> Self {
        let mut recorder = Recorder::start();
        recorder.record(took, 1.0);
        Self { rate: 1.0 / took.as_secs_f64().max(1e-9), ..recorder.finish() }
    }

    /// What such a run may take at most, as the project promises.
    pub fn aim(p50: Duration) -> Self {
        Self { p50: p50.as_secs_f64() * 1e6, ..Self::default() }
    }

    /// One line's worth.
    pub fn short(&self, unit: Unit) -> String {
        match unit {
            Unit::Micros => format!("p50 {:.0} us, p99 {:.0} us, {:.0}/s", self.p50, self.p99, self.rate),
            Unit::PerSecond => format!("{:.0}/s, p50 {:.0} us", self.rate, self.p50),
            Unit::MegabytesPerSecond => format!("{:.0} MB/s", self.rate),
            Unit::Bytes => format!("{:.0} bytes", self.rate),
            Unit::Count => format!("{:.0}", self.rate),
        }
    }
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn middle_run(runs: &[Run]) -> Run {
    let of = |pick: fn(&Run) -> f64| middle(runs.iter().map(pick).collect());
    Run {
        p50: of(|r| r.p50),
        p99: of(|r| r.p99),
        p999: of(|r| r.p999),
        rate: of(|r| r.rate),
        count: of(|r| r.count),
    }
}

/// The median of each figure over the runs; the ratio is the median of the runs' ratios, since
/// a run and its limit were measured under the same noise.
pub fn median(case: &Case, limit_name: &'static str, samples: &[Sample]) -> Measured {
    let fold = |pick: fn(&Sample) -> Run| middle_run(&samples.iter().map(pick).collect::<Vec<_>>());
    let besides: Vec<Run> = samples.iter().filter_map(|s| s.beside.map(|(_, run)| run)).collect();
    let beside_name = samples.iter().find_map(|s| s.beside.map(|(name, _)| name));
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
        beside: beside_name.map(|name| (name, middle_run(&besides))),
        aim: case.aim,
        ratio: middle(samples.iter().map(ratio).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(p50: f64) -> Run {
        Run { p50, p99: p50, p999: p50, rate: 1e6 / p50, count: 1.0 }
    }

    fn measured(aim: Aim, unit: Unit, samples: &[(f64, f64, f64)]) -> Measured {
        let case = Case { unit, aim: Some(aim), ..crate::bench::cases::CASES[0] };
        let sample = |(p50, limit, beside): &(f64, f64, f64)| Sample {
            run: run(*p50),
            limit: run(*limit),
            beside: Some(("echo", run(*beside))),
        };
        median(&case, "limit", &samples.iter().map(sample).collect::<Vec<_>>())
    }

    #[test]
    fn an_aim_counts_in_the_medians_of_limit_and_what_was_measured_beside() {
        let samples = [(900.0, 300.0, 60.0), (800.0, 200.0, 50.0), (700.0, 250.0, 40.0)];
        let aim = Aim::Latency { limit: 2.0, beside: 4.0, more_us: 0.0 };
        let found = measured(aim, Unit::Micros, &samples);
        assert_eq!((found.run.p50, found.limit.p50, found.ratio), (800.0, 250.0, 3.0));
        let verdict = found.verdict().expect("it has an aim");
        assert_eq!((verdict.value, verdict.met), (700.0, false));
        assert_eq!(verdict.text, "p50 <= 2 x the limit + 4 x echo");
        let aim = Aim::Latency { limit: 2.0, beside: 4.0, more_us: 100.0 };
        assert!(measured(aim, Unit::Micros, &samples).verdict().is_some_and(|v| v.met));
    }

    #[test]
    fn a_spread_asks_for_both_and_a_rate_for_the_lesser_of_two() {
        let near = [(100.0, 100.0, 1.0)];
        let spread = |spread| Aim::LatencySpread { limit: 1.0, beside: 0.0, spread };
        assert!(measured(spread(1.0), Unit::Micros, &near).verdict().is_some_and(|v| v.met));
        assert!(measured(spread(0.5), Unit::Micros, &near).verdict().is_some_and(|v| !v.met));
        // 10,000 and 20,000 a second.
        let half = [(100.0, 50.0, 200.0)];
        let rate = |limit, enough| {
            measured(Aim::Rate { limit, enough }, Unit::PerSecond, &half).verdict().map(|v| (v.value, v.met))
        };
        assert_eq!(rate(0.4, f64::INFINITY), Some((8_000.0, true)));
        assert_eq!(rate(0.6, f64::INFINITY), Some((12_000.0, false)));
        assert_eq!(rate(0.6, 10_000.0), Some((10_000.0, true)));
        let above = |limit| measured(Aim::RateAbove { limit }, Unit::PerSecond, &half).verdict();
        assert!(above(0.1).is_some_and(|v| v.value == 5_000.0 && v.met));
    }
}
