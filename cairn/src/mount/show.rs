//! `cairn mount ls` and `cairn mount show`.

use std::ffi::OsStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cairn_sdk::types::Timestamp;
use cairn_sdk::{Client, ConflictRule, EndpointAbilities, MountFigures, MountStatus};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::exit::CliError;
use crate::fs::remote;
use crate::output::{human_bytes, line, object, time_text};
use crate::units::{about_time, exact_time};

/// A mount's path, for people.
pub fn path_of(mount: &MountStatus) -> String {
    String::from_utf8_lossy(&mount.path).into_owned()
}

/// `s3://bucket/prefix`.
pub fn url_of(mount: &MountStatus) -> String {
    format!("s3://{}/{}", mount.options.bucket, mount.options.prefix)
}

/// Whether it can be written to.
pub fn access_word(mount: &MountStatus) -> &'static str {
    match (mount.read_only, mount.options.rules.writable) {
        (false, _) => "read-write",
        (true, false) => "read-only",
        (true, true) => "read-only (!)",
    }
}

/// A rule as the command line names it.
pub fn rule_word(rule: ConflictRule) -> &'static str {
    match rule {
        ConflictRule::KeepBoth => "keep-both",
        ConflictRule::Bucket => "bucket",
        ConflictRule::Namespace => "namespace",
    }
}

fn refresh_text(refresh: Duration) -> String {
    match u64::try_from(refresh.as_millis()).unwrap_or(u64::MAX) {
        0 => "never".to_owned(),
        ms => exact_time(ms),
    }
}

/// Milliseconds since then, by this machine's clock.
fn age_ms(then: Timestamp) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let then = Duration::from_nanos(u64::try_from(then.0).unwrap_or(0));
    u64::try_from(now.saturating_sub(then).as_millis()).unwrap_or(u64::MAX)
}

pub async fn list(client: &Client, json: bool) -> Result<(), CliError> {
    let mounts = client.mounts_with_figures().await?;
    if json {
        return mounts.iter().try_for_each(|mount| object(&as_json(mount)));
    }
    if mounts.is_empty() {
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header([
        "mount",
        "bucket",
        "",
        "objects",
        "bytes",
        "pending",
        "to delete",
        "oldest",
        "conflicts",
        "failing",
        "last read",
    ]);
    for mount in &mounts {
        let figures = mount.figures.clone().unwrap_or_default();
        table.add_row([
            path_of(mount),
            url_of(mount),
            access_word(mount).to_owned(),
            figures.objects.to_string(),
            human_bytes(figures.bytes),
            figures.pending.to_string(),
            figures.surplus.to_string(),
            figures.oldest_pending.map_or_else(String::new, |since| about_time(age_ms(since))),
            figures.conflicts.to_string(),
            figures.failing.to_string(),
            figures.last_sync.map_or_else(String::new, time_text),
        ]);
    }
    for column in [3, 4, 5, 6, 7, 8, 9] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    line(table.to_string())
}

/// What of a mount's bytes the cluster has and S3 has not, in packs neither.
struct ByteLag {
    bytes: u64,
    oldest_ms: u64,
}

async fn byte_lag(client: &Client, mount: &MountStatus) -> Result<ByteLag, CliError> {
    let mut lag = ByteLag { bytes: 0, oldest_ms: 0 };
    let mut walk = client.lag(mount.root).await?;
    while let Some(found) = walk.next().await? {
        for file in found.files {
            lag.bytes += file.bytes;
            lag.oldest_ms = lag.oldest_ms.max(file.age_ms);
        }
    }
    Ok(lag)
}

pub async fn one(client: &Client, path: &OsStr, json: bool) -> Result<(), CliError> {
    let mount = client.mount_status(remote(path)?.to_bytes()).await?;
    let lag = byte_lag(client, &mount).await?;
    if json {
        let mut shown = as_json(&mount);
        if let Some(fields) = shown.as_object_mut() {
            fields.insert("lag_bytes".to_owned(), json!(lag.bytes));
            fields.insert("lag_age_ms".to_owned(), json!(lag.oldest_ms));
        }
        return object(&shown);
    }
    show(&mount)?;
    show_figures(&mount.figures.clone().unwrap_or_default(), &lag)
}

fn show(mount: &MountStatus) -> Result<(), CliError> {
    let (options, rules, access) = (&mount.options, &mount.options.rules, &mount.options.access);
    let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
    line(format!("mount      {} ({})", path_of(mount), access_word(mount)))?;
    if mount.read_only && rules.writable {
        line(format!(
            "           read-only because {}",
            or(&mount.read_only_because, "it was not tried yet")
        ))?;
    }
    line(format!("bucket     {} at {}, {}", url_of(mount), or(&options.endpoint, "AWS"), options.region))?;
    line(format!("refresh    {}", refresh_text(options.refresh)))?;
    if rules.writable {
        let lag = exact_time(u64::try_from(rules.object_lag.as_millis()).unwrap_or(u64::MAX));
        let alone = if rules.sole_writer { ", nobody else writes there" } else { "" };
        let rule = rule_word(rules.on_conflict);
        line(format!("writes     object lag {lag}, conflicts: {rule}{alone}"))?;
    }
    let said = [
        ("profile", access.profile.as_str()),
        ("credentials", access.credentials_file.as_str()),
        ("sse", access.sse.as_str()),
        ("kms key", access.sse_kms_key.as_str()),
        ("storage class", access.storage_class.as_str()),
        ("", if access.requester_pays { "requester pays" } else { "" }),
    ];
    let said =
        said.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("{name} {value}"));
    let said: Vec<String> = said.collect();
    if !said.is_empty() {
        line(format!("access     {}", said.join(", ").trim_start()))?;
    }
    match &mount.abilities {
        None => line("endpoint   not tried"),
        Some(abilities) => show_abilities(abilities),
    }
}

/// Each ability with its name.
fn abilities(a: &EndpointAbilities) -> [(&'static str, bool); 14] {
    [
        ("writable", a.writable),
        ("put_if_absent", a.put_if_absent),
        ("put_if_match", a.put_if_match),
        ("complete_if_absent", a.complete_if_absent),
        ("complete_if_match", a.complete_if_match),
        ("copy_if_absent", a.copy_if_absent),
        ("copy_if_match", a.copy_if_match),
        ("copy_source_if_match", a.copy_source_if_match),
        ("delete_if_match", a.delete_if_match),
        ("get_if_match", a.get_if_match),
        ("part_copy", a.part_copy),
        ("crc32c", a.crc32c),
        ("crc64nvme", a.crc64nvme),
        ("byte_order", a.byte_order),
    ]
}

fn show_abilities(a: &EndpointAbilities) -> Result<(), CliError> {
    let with = |can: bool| {
        let chosen = abilities(a).into_iter().filter(|(_, does)| *does == can);
        chosen.map(|(name, _)| name).collect::<Vec<_>>().join(" ")
    };
    line(format!("endpoint   can:    {}", with(true)))?;
    line(format!("           cannot: {}", with(false)))
}

fn show_figures(figures: &MountFigures, lag: &ByteLag) -> Result<(), CliError> {
    line(format!(
        "objects    {} known, {}; {} directories, {} of them never read",
        figures.objects,
        human_bytes(figures.bytes),
        figures.directories,
        figures.unread_directories
    ))?;
    let last = figures.last_sync.map_or_else(|| "never".to_owned(), time_text);
    line(format!("last read  {last}"))?;
    let oldest =
        figures.oldest_pending.map(|since| format!(", the oldest for {}", about_time(age_ms(since))));
    line(format!(
        "pending    {} ({} to write){}; {} objects to delete",
        figures.pending,
        human_bytes(figures.pending_bytes),
        oldest.unwrap_or_default(),
        figures.surplus
    ))?;
    let age = if lag.bytes == 0 { String::new() } else { format!(", for {}", about_time(lag.oldest_ms)) };
    line(format!("lag        {} are on data nodes alone{age}", human_bytes(lag.bytes)))?;
    if figures.failing > 0 {
        line(format!("failing    {}; one of them: {}", figures.failing, figures.last_error))?;
    }
    line(format!("conflicts  {}", figures.conflicts))
}

/// A mount as JSON.
pub fn as_json(mount: &MountStatus) -> Value {
    let (options, rules, access) = (&mount.options, &mount.options.rules, &mount.options.access);
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    json!({
        "id": mount.id.0,
        "path": path_of(mount),
        "url": url_of(mount),
        "endpoint": options.endpoint,
        "region": options.region,
        "read_only": mount.read_only,
        "read_only_because": mount.read_only_because,
        "refresh_ms": ms(options.refresh),
        "writable": rules.writable,
        "object_lag_ms": ms(rules.object_lag),
        "on_conflict": rule_word(rules.on_conflict),
        "sole_writer": rules.sole_writer,
        "profile": access.profile,
        "credentials_file": access.credentials_file,
        "requester_pays": access.requester_pays,
        "sse": access.sse,
        "sse_kms_key": access.sse_kms_key,
        "storage_class": access.storage_class,
        "abilities": mount.abilities.as_ref().map(|a| {
            abilities(a).into_iter().map(|(name, can)| (name.to_owned(), can.into())).collect::<serde_json::Map<_, _>>()
        }),
        "figures": mount.figures.as_ref().map(figures_json),
    })
}

fn figures_json(f: &MountFigures) -> Value {
    json!({
        "objects": f.objects,
        "bytes": f.bytes,
        "directories": f.directories,
        "unread_directories": f.unread_directories,
        "pending": f.pending,
        "pending_bytes": f.pending_bytes,
        "surplus": f.surplus,
        "oldest_pending_ns": f.oldest_pending.map(|time| time.0),
        "conflicts": f.conflicts,
        "last_sync_ns": f.last_sync.map(|time| time.0),
        "failing": f.failing,
        "last_error": f.last_error,
    })
}
