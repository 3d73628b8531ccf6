//! Short runs of every workload under kills and pauses; `cairn-jepsen` runs them for hours.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, in real time")]

use std::time::Duration;

use cairn_jepsen::nemesis::Nemesis;
use cairn_jepsen::workload::Workload;
use cairn_jepsen::{RunOptions, run, seed};

async fn short(workload: Workload, nemesis: Nemesis) {
    let long = std::env::var_os("CAIRN_LONG").is_some();
    let duration = Duration::from_secs(if long { 120 } else { 12 });
    let seed = seed();
    let history = std::env::temp_dir().join(format!("cairn-history-{workload:?}-{nemesis:?}-{seed}.jsonl"));
    let options = RunOptions { seed, duration, workload, nemesis, history: Some(history.clone()) };
    match run(&options).await {
        Ok(report) => {
            println!("{workload:?} under {nemesis:?}: {report:?}");
            assert!(report.struck.kills + report.struck.pauses > 1, "{report:?}");
            std::fs::remove_file(history).unwrap();
        }
        Err(error) => panic!("{workload:?} under {nemesis:?}: {error}\nhistory: {}", history.display()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_under_kills() {
    short(Workload::Append, Nemesis::Kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_under_pauses() {
    short(Workload::Append, Nemesis::Pause).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renames_under_kills() {
    short(Workload::Rename, Nemesis::Kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renames_under_pauses() {
    short(Workload::Rename, Nemesis::Pause).await;
}
