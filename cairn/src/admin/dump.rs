//! `cairn admin dump`: the namespace as JSON lines, to a file or to standard output.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use cairn_sdk::Client;
use serde_json::json;
use tempfile::NamedTempFile;

use crate::cli::DumpArgs;
use crate::exit::CliError;
use crate::output::{bytes, flush, object};
use crate::progress::spinner;

/// What a dump came to.
struct Written {
    rows: u64,
    bytes: u64,
    log_index: u64,
}

/// Dumps the namespace.
pub async fn run(client: &Client, args: &DumpArgs, json: bool) -> Result<(), CliError> {
    if args.output.as_os_str() == "-" {
        write(client, &mut |lines| bytes(lines)).await?;
        return flush();
    }
    let written = to_file(client, &args.output).await?;
    if json {
        let Written { rows, bytes, log_index } = written;
        let file = args.output.display().to_string();
        return object(&json!({"file": file, "rows": rows, "bytes": bytes, "log_index": log_index}));
    }
    Ok(())
}

/// The file appears under its name when all of it is on the disk.
async fn to_file(client: &Client, path: &Path) -> Result<Written, CliError> {
    let shown = path.display().to_string();
    let error = |action, source| CliError::io(action, &shown, source);
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let made = tempfile::Builder::new().prefix(".cairn-dump-").tempfile_in(directory);
    let mut file: NamedTempFile = made.map_err(|e| error("make a file beside", e))?;
    let written = write(client, &mut |lines| {
        file.write_all(lines).map_err(|source| CliError::io("write", &shown, source))
    })
    .await?;
    let (shown, path, directory) = (shown.clone(), path.to_owned(), directory.to_owned());
    tokio::task::spawn_blocking(move || {
        let error = |action, source| CliError::io(action, &shown, source);
        file.as_file().sync_all().map_err(|e| error("sync", e))?;
        file.persist(&path).map_err(|e| error("rename a file to", e.error))?;
        File::open(&directory).and_then(|dir| dir.sync_all()).map_err(|e| error("sync the directory of", e))
    })
    .await??;
    Ok(written)
}

async fn write(
    client: &Client,
    out: &mut (dyn FnMut(&[u8]) -> Result<(), CliError> + Send),
) -> Result<Written, CliError> {
    let bar = spinner();
    let mut written = Written { rows: 0, bytes: 0, log_index: 0 };
    let mut dump = client.dump().await?;
    while let Some(batch) = dump.next().await? {
        out(&batch.lines)?;
        (written.rows, written.log_index) = (batch.rows, batch.log_index);
        written.bytes += batch.lines.len() as u64;
        if let Some(bar) = &bar {
            bar.set_message(format!("{} rows, {} bytes, {}", written.rows, written.bytes, batch.phase));
        }
    }
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    Ok(written)
}
