//! Telling the results: a table for people, JSON for programs.

use comfy_table::{Table, presets};
use serde_json::json;

use super::Unit;
use super::measure::{Measured, Run};
use crate::exit::CliError;
use crate::output::line;

pub fn json(measured: &[Measured]) -> Result<(), CliError> {
    let rows: Vec<_> = measured
        .iter()
        .map(|m| {
            let mut row = json!({
                "name": m.name, "unit": m.unit.text(), "p50": m.run.p50, "p99": m.run.p99, "p999": m.run.p999,
                "rate": m.run.rate,
                "limit": {"name": m.limit_name, "p50": m.limit.p50, "rate": m.limit.rate},
                "ratio": m.ratio,
            });
            if let Some((name, beside)) = &m.beside {
                row["beside"] = json!({"name": name, "p50": beside.p50, "rate": beside.rate});
            }
            if let Some(verdict) = m.verdict() {
                row["aim"] = json!({"text": verdict.text, "value": verdict.value, "met": verdict.met});
            }
            row
        })
        .collect();
    line(serde_json::Value::from(rows).to_string())
}

pub fn table(measured: &[Measured]) -> Result<(), CliError> {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header([
        "bench",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "rate",
        "limit",
        "its p50 us",
        "its rate",
        "ratio",
    ]);
    let number = |v: f64| if v >= 100.0 { format!("{v:.0}") } else { format!("{v:.1}") };
    for m in measured {
        let rate = |run: &Run| {
            let unit = match m.unit {
                Unit::MegabytesPerSecond => "MB/s",
                Unit::Bytes => "bytes",
                Unit::Count => "",
                Unit::Micros | Unit::PerSecond => "/s",
            };
            format!("{} {unit}", number(run.rate))
        };
        table.add_row([
            m.name.to_owned(),
            number(m.run.p50),
            number(m.run.p99),
            number(m.run.p999),
            rate(&m.run),
            m.limit_name.to_owned(),
            number(m.limit.p50),
            rate(&m.limit),
            format!("{:.2}", m.ratio),
        ]);
    }
    line(table.to_string())?;
    for m in measured {
        let Some(verdict) = m.verdict() else { continue };
        let beside = m.beside.map(|(name, run)| match m.unit {
            Unit::Micros => format!(" ({name}: {} us)", number(run.p50)),
            _ => format!(" ({name}: {})", number(run.rate)),
        });
        line(format!(
            "{}: aim: {} = {} {}{}: {}",
            m.name,
            verdict.text,
            number(verdict.value),
            m.unit.text(),
            beside.unwrap_or_default(),
            if verdict.met { "met" } else { "not met" },
        ))?;
    }
    line(
        "ratio: p50 / limit's p50 for latencies, bytes / limit's bytes (smaller is better), rate / limit's rate otherwise \
         (larger is better)",
    )
}
