//! `cairn meta` and `cairn data`: one role a process.

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use toml::Value;
use tracing_subscriber::EnvFilter;

use crate::cli::{DataArgs, MetaArgs};
use crate::config::{Flag, layered, show};
use crate::exit::CliError;
use crate::output::line;

/// Starts logging to standard error. Servers log at `info`, commands at `error`, unless told.
///
/// # Errors
/// `Usage` when the filter does not parse.
pub fn start_logging(server: bool, filter: &str) -> Result<(), CliError> {
    let default = if server { "info" } else { "error" };
    let filter = if filter.is_empty() { default } else { filter };
    let filter = EnvFilter::try_new(filter).map_err(|e| CliError::Usage(format!("--log '{filter}': {e}")))?;
    let started = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    if let Err(error) = started {
        eprintln!("cairn: logging did not start: {error}");
    }
    Ok(())
}

/// Cancelled at the first SIGTERM or SIGINT; a second one ends the process at once.
pub fn stop_on_signals() -> Result<CancellationToken, CliError> {
    let failed = |e| CliError::io("watch for", "signals", e);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        for again in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if again {
                std::process::exit(130);
            }
            tracing::info!("stopping");
            told.cancel();
        }
    });
    Ok(stop)
}

fn text(value: Option<impl Into<String>>) -> Option<Value> {
    value.map(|v| Value::String(v.into()))
}

fn path(value: Option<std::path::PathBuf>) -> Option<Value> {
    text(value.map(|p| p.to_string_lossy().into_owned()))
}

fn list(values: Vec<String>) -> Option<Value> {
    (!values.is_empty()).then(|| Value::Array(values.into_iter().map(Value::String).collect()))
}

fn flag(value: bool) -> Option<Value> {
    value.then_some(Value::Boolean(true))
}

fn print<T: Serialize>(config: &T) -> Result<(), CliError> {
    line(show(config)?.trim_end())
}

/// Runs a metadata server until it is told to stop.
pub async fn meta(args: MetaArgs) -> Result<(), CliError> {
    let flags: Vec<Flag> = vec![
        ("id", args.id.map(|id| Value::Integer(i64::try_from(id).unwrap_or(i64::MAX)))),
        ("dir", path(args.dir)),
        ("listen", text(args.listen)),
        ("advertise", text(args.advertise)),
        ("peers", list(args.peers)),
        ("join", list(args.join)),
        ("http", text(args.http)),
        ("insecure", flag(args.insecure)),
    ];
    let config: cairn_meta::Config = layered(args.config.as_deref(), "CAIRN_META", &[], flags)?;
    config.check().map_err(cairn_meta::ServeError::Config)?;
    if args.print_config {
        return print(&config);
    }
    let stop = stop_on_signals()?;
    let (ready, is_ready) = oneshot::channel();
    tokio::spawn(async move {
        if let Ok(ready) = is_ready.await {
            let ready: cairn_meta::Ready = ready;
            tracing::info!(listen = %ready.listen, http = ?ready.http, "metadata server serves");
        }
    });
    Ok(cairn_meta::serve(config, stop, ready).await?)
}

/// The keys of the optional `[understore]` table, for the environment.
const UNDERSTORE_KEYS: [(&str, Value); 5] = [
    ("understore.url", Value::String(String::new())),
    ("understore.endpoint", Value::String(String::new())),
    ("understore.region", Value::String(String::new())),
    ("understore.force_path_style", Value::Boolean(true)),
    ("understore.timeout_ms", Value::Integer(0)),
];

/// The keys `dir` and `dirs` by flags, which win over both in the file: one disk, or several.
fn disks(named: &[std::path::PathBuf]) -> (Option<Value>, Option<Value>) {
    let text = |dir: &std::path::PathBuf| Value::String(dir.to_string_lossy().into_owned());
    let all = if named.len() > 1 { named } else { &[] };
    let dirs = (!named.is_empty()).then(|| Value::Array(all.iter().map(text).collect()));
    (named.first().map(text), dirs)
}

/// Runs a data node until it is told to stop.
pub async fn data(args: DataArgs) -> Result<(), CliError> {
    let (dir, dirs) = disks(&args.dir);
    let flags: Vec<Flag> = vec![
        ("dir", dir),
        ("dirs", dirs),
        ("listen", text(args.listen)),
        ("advertise", text(args.advertise)),
        ("meta", list(args.meta)),
        ("http", text(args.http)),
        ("zone", text(args.zone)),
        ("host", text(args.host)),
        ("understore.url", text(args.understore)),
        ("understore.endpoint", text(args.understore_endpoint)),
        ("insecure", flag(args.insecure)),
    ];
    let config: cairn_datanode::Config =
        layered(args.config.as_deref(), "CAIRN_DATA", &UNDERSTORE_KEYS, flags)?;
    config.check().map_err(cairn_datanode::ServeError::Config)?;
    if args.print_config {
        return print(&config);
    }
    let stop = stop_on_signals()?;
    let (ready, is_ready) = oneshot::channel();
    tokio::spawn(async move {
        if let Ok(ready) = is_ready.await {
            let ready: cairn_datanode::Ready = ready;
            tracing::info!(listen = %ready.listen, http = ?ready.http, "data node serves");
        }
    });
    Ok(cairn_datanode::serve(config, stop, ready).await?)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn directories_named_by_flags_win_over_those_in_the_file() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("data.toml");
        let read = |text: &str, named: &[&str]| -> cairn_datanode::Config {
            std::fs::write(&file, text).unwrap();
            let named: Vec<PathBuf> = named.iter().map(PathBuf::from).collect();
            let (dir, dirs) = disks(&named);
            let config: cairn_datanode::Config =
                layered(Some(&file), "CAIRN_TEST_NONE", &[], vec![("dir", dir), ("dirs", dirs)]).unwrap();
            config.check().unwrap();
            config
        };
        let several = "dirs = ['/x', '/y']";
        for text in ["dir = '/x'", several] {
            assert_eq!(read(text, &["/a"]).disks(), [PathBuf::from("/a")]);
            assert_eq!(read(text, &["/a", "/b"]).disks(), ["/a", "/b"].map(PathBuf::from));
        }
        assert_eq!(read(several, &[]).disks(), ["/x", "/y"].map(PathBuf::from));
    }
}
