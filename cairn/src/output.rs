//! What commands print: sizes, times, modes, JSON lines.

use std::io::Write;

use cairn_sdk::types::{FileKind, Inode, Timestamp};
use serde_json::{Value, json};

use crate::exit::CliError;

/// Writes one line to standard output. A closed pipe ends the command quietly, as head(1) expects.
pub fn line(text: impl AsRef<[u8]>) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    raw(&mut out, text.as_ref())?;
    raw(&mut out, b"\n")
}

/// Writes one JSON object as a line of its own.
pub fn object(value: &Value) -> Result<(), CliError> {
    line(value.to_string())
}

/// Writes bytes to standard output.
pub fn bytes(data: &[u8]) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    raw(&mut out, data)
}

fn raw(out: &mut impl Write, data: &[u8]) -> Result<(), CliError> {
    match out.write_all(data) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        outcome => outcome.map_err(|e| CliError::io("write to", "standard output", e)),
    }
}

/// Flushes standard output.
pub fn flush() -> Result<(), CliError> {
    match std::io::stdout().flush() {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        outcome => outcome.map_err(|e| CliError::io("write to", "standard output", e)),
    }
}

/// Bytes for people, in binary units.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// `drwxr-xr-x`.
#[must_use]
pub fn mode_text(inode: &Inode) -> String {
    let kind = match inode.kind {
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::File => '-',
        FileKind::Fifo => 'p',
        FileKind::Socket => 's',
        FileKind::CharacterDevice(_) => 'c',
        FileKind::BlockDevice(_) => 'b',
    };
    let mut text = String::from(kind);
    for shift in [6u32, 3, 0] {
        let bits = (inode.mode >> shift) & 7;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        let special = match shift {
            6 => inode.mode & 0o4000 != 0,
            3 => inode.mode & 0o2000 != 0,
            _ => inode.mode & 0o1000 != 0,
        };
        let letter = if shift == 0 { 't' } else { 's' };
        text.push(match (special, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// What `ls -l` shows in the column of sizes: a device's number in its place.
#[must_use]
pub fn size_text(inode: &Inode) -> String {
    match inode.kind.device() {
        Some(device) => format!("{}, {}", device.major, device.minor),
        None => inode.size.to_string(),
    }
}

/// A time as `2026-11-22T10:00:00Z` (RFC 3339, UTC).
#[must_use]
pub fn time_text(time: Timestamp) -> String {
    let seconds = time.0.div_euclid(1_000_000_000);
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Days since the epoch as a date (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = (doy - (153 * mp + 2) / 5 + 1) as u32;
    let month = if mp < 10 { mp + 3 } else { mp - 9 } as u32;
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

/// An inode as JSON. Names and targets that are no UTF-8 are shown with replacement characters.
#[must_use]
pub fn inode_json(path: &[u8], inode: &Inode, growing: bool) -> Value {
    json!({
        "path": String::from_utf8_lossy(path),
        "ino": inode.ino.0,
        "kind": inode.kind.word(),
        "device": inode.kind.device(),
        "mode": format!("{:o}", inode.mode),
        "uid": inode.uid,
        "gid": inode.gid,
        "nlink": inode.nlink,
        "size": inode.size,
        "mtime": time_text(inode.mtime),
        "mtime_ns": inode.mtime.0,
        "ctime_ns": inode.ctime.0,
        "btime_ns": inode.btime.0,
        "version": inode.version,
        "growing": growing || inode.tail.is_some(),
        "target": inode.target.as_ref().map(|t| String::from_utf8_lossy(t).into_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_read_well() {
        assert_eq!(time_text(Timestamp(0)), "1970-01-01T00:00:00Z");
        assert_eq!(time_text(Timestamp(1_709_251_199_000_000_000)), "2024-02-29T23:59:59Z");
        assert_eq!(time_text(Timestamp(-1)), "1969-12-31T23:59:59Z");
        assert_eq!(human_bytes(1023), "1023 B");
        assert_eq!(human_bytes(1536), "1.5 KiB");
    }
}
