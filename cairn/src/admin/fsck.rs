//! `cairn admin fsck`: a check of the metadata, shown as a table or as JSON lines.

use cairn_sdk::types::NodeId;
use cairn_sdk::{Client, FsckFinding, FsckOptions, FsckOutcome, FsckProgress};
use comfy_table::{Table, presets};
use serde_json::{Map, Value, json};

use crate::cli::FsckArgs;
use crate::exit::CliError;
use crate::output::{line, object};
use crate::progress::spinner;

/// Findings that a table shows, at most; all are counted, and JSON has all.
const SHOWN_MAX: usize = 1000;
/// Checks in a row that repair: what one mends may show what lay behind it.
const ROUNDS_MAX: u32 = 8;

/// What one check came to.
#[derive(Debug, Default)]
struct Round {
    node: u64,
    log_index: u64,
    rows: u64,
    found: u64,
    mended: u64,
    /// Damage that is there still.
    left: u64,
    shown: Vec<FsckFinding>,
}

impl Round {
    fn add(&mut self, progress: FsckProgress) {
        (self.node, self.log_index, self.rows) = (progress.node, progress.log_index, progress.rows);
        for finding in progress.findings {
            self.found += 1;
            match finding.outcome() {
                FsckOutcome::Mended => self.mended += 1,
                FsckOutcome::Gone => {}
                FsckOutcome::Left | FsckOutcome::Refused => self.left += u64::from(!finding.known),
            }
            if self.shown.len() < SHOWN_MAX {
                self.shown.push(finding);
            }
        }
    }
}

/// Checks; with `--repair` again and again until nothing is found that can be mended.
pub async fn run(client: &Client, args: &FsckArgs, json: bool) -> Result<(), CliError> {
    let mut options = FsckOptions { repair: args.repair, server: args.server.map(NodeId) };
    let mut number = 1;
    loop {
        // The last round only looks at what the one before has left.
        options.repair &= number < ROUNDS_MAX;
        let round = check(client, options, number, json).await?;
        show(&round, options.repair, number, json)?;
        if !options.repair || round.mended == 0 {
            return if round.left == 0 { Ok(()) } else { Err(CliError::Damage { left: round.left }) };
        }
        number += 1;
    }
}

async fn check(client: &Client, options: FsckOptions, number: u32, json: bool) -> Result<Round, CliError> {
    let bar = if json { None } else { spinner() };
    let mut check = client.fsck(options).await?;
    let mut round = Round::default();
    while let Some(progress) = check.next().await? {
        if let Some(bar) = &bar {
            bar.set_message(format!("{} rows, {} findings, {}", progress.rows, round.found, progress.phase));
        }
        if json {
            progress.findings.iter().try_for_each(|finding| object(&as_json(finding, number)))?;
        }
        round.add(progress);
    }
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    Ok(round)
}

fn outcome_text(finding: &FsckFinding) -> &'static str {
    match finding.outcome() {
        FsckOutcome::Mended => "mended",
        FsckOutcome::Gone => "gone by itself",
        FsckOutcome::Refused => "refused",
        FsckOutcome::Left if finding.known => "known",
        FsckOutcome::Left if finding.repairable => "can be mended",
        FsckOutcome::Left => "left",
    }
}

fn as_json(finding: &FsckFinding, round: u32) -> Value {
    // Ids and counts as numbers; names and kinds as text.
    let value = |text: &String| text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number));
    let text = |name: &str| matches!(name, "name" | "key" | "table" | "chunks" | "counter");
    let fields: Map<String, Value> = finding
        .fields
        .iter()
        .map(|f| (f.name.clone(), if text(&f.name) { json!(f.value) } else { value(&f.value) }))
        .collect();
    json!({
        "round": round, "kind": finding.kind, "text": finding.text, "known": finding.known,
        "repairable": finding.repairable, "outcome": outcome_text(finding),
        "refusal": (!finding.refusal.is_empty()).then_some(&finding.refusal), "fields": fields,
    })
}

fn show(round: &Round, repair: bool, number: u32, json: bool) -> Result<(), CliError> {
    if json {
        return object(&json!({
            "round": number, "done": true, "node": round.node, "log_index": round.log_index, "rows": round.rows,
            "findings": round.found, "mended": round.mended, "left": round.left,
        }));
    }
    if !round.shown.is_empty() {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY).set_header(["finding", "what", "state"]);
        for finding in &round.shown {
            let state = match finding.refusal.as_str() {
                "" => outcome_text(finding).to_owned(),
                refusal => format!("refused: {refusal}"),
            };
            table.add_row([finding.kind.as_str(), finding.text.as_str(), state.as_str()]);
        }
        line(table.to_string())?;
    }
    let more = round.found.saturating_sub(round.shown.len() as u64);
    if more > 0 {
        line(format!("and {more} more: --json shows all"))?;
    }
    let of = NodeId(round.node);
    let what = format!("{} rows of {of} at log index {}", round.rows, round.log_index);
    match (round.found, repair) {
        (0, _) => line(format!("{what}: nothing is wrong")),
        (found, false) => line(format!("{what}: {found} findings")),
        (found, true) => line(format!("{what}: {found} findings, {} mended", round.mended)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_proto::v1::FsckField;

    fn finding(known: bool, outcome: FsckOutcome) -> FsckFinding {
        let fields =
            [("ino", "7"), ("name", "12")].map(|(n, v)| FsckField { name: n.into(), value: v.into() });
        let mut finding = FsckFinding { kind: "no_place".into(), known, ..Default::default() };
        finding.fields = fields.to_vec();
        finding.set_outcome(outcome);
        finding
    }

    #[test]
    fn what_is_mended_or_known_is_no_damage_that_is_left() {
        let mut round = Round::default();
        let found = vec![
            finding(false, FsckOutcome::Left),
            finding(false, FsckOutcome::Refused),
            finding(false, FsckOutcome::Mended),
            finding(false, FsckOutcome::Gone),
            finding(true, FsckOutcome::Left),
        ];
        round.add(FsckProgress { rows: 9, findings: found, ..Default::default() });
        assert_eq!((round.found, round.mended, round.left, round.rows), (5, 1, 2, 9));
        assert_eq!(CliError::Damage { left: 2 }.code(), 4);
    }

    #[test]
    fn json_has_ids_as_numbers_and_names_as_text() {
        let shown = as_json(&finding(false, FsckOutcome::Mended), 1);
        assert_eq!(shown["fields"], json!({"ino": 7, "name": "12"}));
        assert_eq!((&shown["outcome"], &shown["refusal"]), (&json!("mended"), &Value::Null));
    }
}
