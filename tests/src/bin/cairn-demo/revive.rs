//! The last act: the killed servers come back.

use std::time::{Duration, Instant};

use cairn_tests::cluster::run;

use crate::error::DemoError;
use crate::report::Report;
use crate::say;
use crate::stage::Stage;
use crate::wal::Wal;

const READY_WITHIN: Duration = Duration::from_secs(30);
const COMMAND_WITHIN: Duration = Duration::from_secs(20);

/// Starts what was killed, shows `cairn status`, and reads the log once more.
pub async fn revive(stage: &mut Stage, wal: &Wal, report: &mut Report) -> Result<(), DemoError> {
    say::act("Starting the killed servers again");
    let started = Instant::now();
    let cluster = stage.cluster();
    cluster.metas[wal.dead_meta].start()?;
    cluster.datas[wal.dead_data].start()?;
    cluster.wait_ready(READY_WITHIN).await?;
    let took = started.elapsed();
    say::ok(format!(
        "meta{} and data{} serve after {}",
        wal.dead_meta + 1,
        wal.dead_data + 1,
        say::duration(took)
    ));
    report.row("killed servers, start to ready", say::duration(took), "one of each");
    let client = stage.client();
    wal.check(&client).await?;

    let mut command = stage.cluster().cli();
    command.arg("status");
    let status = run(command, b"", COMMAND_WITHIN).await?;
    if status.code != 0 {
        let what = format!("`cairn status` ended with {}: {}", status.code, status.stderr);
        return Err(DemoError::Mismatch(what));
    }
    say::note("`cairn status` says:");
    for line in status.text().lines() {
        println!("    {line}");
    }
    client.close().await?;
    Ok(())
}
