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
            if let Some(echo) = &m.echo {
                row["echo"] = json!({"p50": echo.p50, "rate": echo.rate, "aim_p50": m.aim_p50()});
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
        let (Some(echo), Some(aim)) = (&m.echo, m.aim_p50()) else { continue };
        line(format!(
            "{}: p50 {} us; aim: 2 x limit + 4 x echo = 2 x {} + 4 x {} = {} us: {}",
            m.name,
            number(m.run.p50),
            number(m.limit.p50),
            number(echo.p50),
            number(aim),
            if m.run.p50 <= aim { "met" } else { "not met" },
        ))?;
    }
    line(
        "ratio: p50 / limit's p50 for latencies, bytes / limit's bytes (smaller is better), rate / limit's rate otherwise \
         (larger is better)",
    )
}
