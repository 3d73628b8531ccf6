//! `cairn admin gc`: what nothing points at any more, and its end.

use std::time::{Duration, Instant};

use cairn_sdk::{Client, GcAmount, GcReport};
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::cli::GcArgs;
use crate::exit::CliError;
use crate::output::{human_bytes, line, object};
use crate::progress::spinner;

/// The pause between two looks while something is left: nothing goes in less.
const PAUSE: Duration = Duration::from_secs(2);

/// A row of the table: what it is, how much, and why it goes.
struct Kind {
    name: &'static str,
    amount: GcAmount,
    why: String,
    /// It is gone some time after an order to collect.
    goes: bool,
}

/// Looks once with `--dry-run`; else again and again until nothing is left, or the time is over.
pub async fn run(client: &Client, args: &GcArgs, json: bool) -> Result<(), CliError> {
    let began = Instant::now();
    loop {
        let report = look(client, args.dry_run, json).await?;
        let left = left(&report);
        if json {
            object(&as_json(&report, args.dry_run))?;
        } else if args.dry_run || left == 0 {
            show(&report, args.dry_run)?;
        } else {
            line(format!("{left} left: {}", summary(&report)))?;
        }
        if args.dry_run || left == 0 {
            return Ok(());
        }
        if began.elapsed() >= Duration::from_secs(args.timeout) {
            return Err(CliError::Uncollected { left });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn look(client: &Client, only_look: bool, json: bool) -> Result<GcReport, CliError> {
    let bar = if json { None } else { spinner() };
    let mut gc = client.gc(only_look).await?;
    while let Some(progress) = gc.next().await? {
        if let Some(bar) = &bar {
            bar.set_message(format!("{}: {} looked at", progress.phase, progress.looked_at));
        }
    }
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    // It ends with one.
    Ok(gc.report().unwrap_or_default())
}

fn kinds(report: &GcReport) -> Vec<Kind> {
    let of = |amount: Option<GcAmount>| amount.unwrap_or_default();
    let only = |count| GcAmount { count, bytes: 0 };
    let percent = report.sparse_below_percent;
    let kind = |name, amount, why: String, goes| Kind { name, amount, why, goes };
    let in_upload = match report.dead_in_upload {
        0 => String::new(),
        some => format!("; {some} wait for the end of an upload"),
    };
    vec![
        kind(
            "dead chunks",
            of(report.dead_chunks),
            format!("no file points at them: {} replicas go{in_upload}", report.dead_replicas),
            true,
        ),
        kind("surplus replicas", of(report.surplus_replicas), "their nodes are no holders".into(), true),
        kind("dead packs", of(report.dead_packs), "no chunk in them is alive".into(), true),
        kind(
            "sparse packs",
            of(report.sparse_packs),
            format!(
                "less than {percent} % is alive: {} are written again",
                human_bytes(report.sparse_live_bytes)
            ),
            true,
        ),
        kind("compactions", only(report.compactions), "under way".into(), true),
        kind("merges", only(report.merges), "of small extents, under way".into(), true),
        kind(
            "fragmented files",
            only(report.fragmented_files),
            format!("{} small extents of theirs are to be merged", report.fragmented_extents),
            false,
        ),
        kind("orphan objects", of(report.orphan_packs), "no row and no intent names them".into(), true),
        kind("stray replicas", of(report.stray_replicas), "on disks, and no chunk names them".into(), true),
        kind("abandoned uploads", only(report.abandoned_uploads), "begun over a day ago".into(), true),
        kind("unlinked files", only(report.unlinked_files), "their rows are being removed".into(), true),
        kind("cut contents", only(report.cut_contents), "their extents are being removed".into(), true),
        kind("removed trees", only(report.removed_trees), "their names are being removed".into(), true),
        kind(
            "unknown objects",
            of(report.unknown_objects),
            "under the cluster's packs, and none of it: left alone".into(),
            false,
        ),
    ]
}

/// How many things are to go and are not gone.
fn left(report: &GcReport) -> u64 {
    kinds(report).iter().filter(|kind| kind.goes).map(|kind| kind.amount.count).sum()
}

fn summary(report: &GcReport) -> String {
    let there = kinds(report).into_iter().filter(|kind| kind.goes && kind.amount.count > 0);
    let told: Vec<String> = there.map(|kind| format!("{} {}", kind.amount.count, kind.name)).collect();
    told.join(", ")
}

fn show(report: &GcReport, dry_run: bool) -> Result<(), CliError> {
    let there: Vec<Kind> = kinds(report).into_iter().filter(|kind| kind.amount.count > 0).collect();
    if !there.is_empty() {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY).set_header(["what", "count", "size", "why"]);
        for Kind { name, amount, why, .. } in &there {
            let size = if amount.bytes > 0 { human_bytes(amount.bytes) } else { String::new() };
            table.add_row([(*name).to_owned(), amount.count.to_string(), size, why.clone()]);
        }
        line(table.to_string())?;
    }
    match (left(report), dry_run) {
        (0, _) => line("nothing is to be collected")?,
        (left, true) => line(format!("{left} would go"))?,
        (left, false) => line(format!("{left} left"))?,
    }
    if report.bucket_unseen {
        line(format!("the under-store was not looked at: {}", report.bucket_error))?;
    }
    if !report.silent_nodes.is_empty() {
        let nodes: Vec<String> = report.silent_nodes.iter().map(|node| format!("node-{node}")).collect();
        line(format!("the disks of {} were not looked at", nodes.join(", ")))?;
    }
    Ok(())
}

fn as_json(report: &GcReport, dry_run: bool) -> Value {
    let of = |amount: Option<GcAmount>| {
        let amount = amount.unwrap_or_default();
        json!({"count": amount.count, "bytes": amount.bytes})
    };
    json!({
        "dry_run": dry_run, "left": left(report),
        "dead_chunks": of(report.dead_chunks), "dead_replicas": report.dead_replicas,
        "dead_in_upload": report.dead_in_upload, "surplus_replicas": of(report.surplus_replicas),
        "dead_packs": of(report.dead_packs), "sparse_packs": of(report.sparse_packs),
        "sparse_live_bytes": report.sparse_live_bytes, "sparse_below_percent": report.sparse_below_percent,
        "compactions": report.compactions, "merges": report.merges,
        "fragmented_files": report.fragmented_files, "fragmented_extents": report.fragmented_extents,
        "orphan_objects": of(report.orphan_packs),
        "unknown_objects": of(report.unknown_objects), "stray_replicas": of(report.stray_replicas),
        "abandoned_uploads": report.abandoned_uploads, "unlinked_files": report.unlinked_files,
        "cut_contents": report.cut_contents, "removed_trees": report.removed_trees,
        "condemned": report.condemned, "silent_nodes": report.silent_nodes,
        "bucket_error": report.bucket_unseen.then_some(&report.bucket_error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_the_cluster_s_is_shown_and_never_counted_as_left() {
        let amount = |count| Some(GcAmount { count, bytes: 10 * count });
        let report = GcReport {
            unknown_objects: amount(3),
            dead_packs: amount(2),
            orphan_packs: amount(1),
            sparse_below_percent: 50,
            fragmented_files: 4,
            fragmented_extents: 70,
            ..GcReport::default()
        };
        assert_eq!(left(&report), 3);
        assert_eq!(summary(&report), "2 dead packs, 1 orphan objects");
        let shown = as_json(&report, true);
        assert_eq!((&shown["left"], &shown["dead_packs"]["bytes"]), (&json!(3), &json!(20)));
        assert_eq!((&shown["fragmented_files"], &shown["fragmented_extents"]), (&json!(4), &json!(70)));
        assert_eq!((&shown["bucket_error"], &shown["dry_run"]), (&Value::Null, &json!(true)));
        assert_eq!(CliError::Uncollected { left: 3 }.code(), 3);
    }
}
