//! `cairn mount rm`.

use cairn_sdk::types::FsPath;
use cairn_sdk::{Client, MountFigures};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::exit::CliError;
use crate::output::object;
use crate::progress::shown;

pub async fn run(
    client: &Client,
    path: &FsPath,
    wait: bool,
    abandon: bool,
    json: bool,
) -> Result<(), CliError> {
    if wait {
        settle(client, path, json).await?;
    }
    if abandon {
        client.mount_abandon(path.to_bytes()).await?;
    } else {
        client.mount_remove(path.to_bytes()).await?;
    }
    if json { object(&json!({"path": path.to_string(), "removed": true})) } else { Ok(()) }
}

/// Waits until the bucket holds everything, and shows how much is left.
async fn settle(client: &Client, path: &FsPath, json: bool) -> Result<(), CliError> {
    let bar = if json { None } else { shown(|| ProgressBar::new(0)) };
    if let Some(bar) = &bar
        && let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} brought to the bucket {msg}")
    {
        bar.set_style(style);
    }
    let mut most = 0;
    let settled = client.mount_settled(path.to_bytes(), |figures| {
        let left = figures.pending + figures.surplus;
        most = most.max(left);
        if let Some(bar) = &bar {
            bar.set_length(most);
            bar.set_position(most - left);
            bar.set_message(trouble(figures));
        }
        true
    });
    settled.await?;
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    Ok(())
}

fn trouble(figures: &MountFigures) -> String {
    if figures.failing == 0 {
        return String::new();
    }
    format!("({} failing: {})", figures.failing, figures.last_error)
}
