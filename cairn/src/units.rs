//! Bytes and times as people write them: `64MiB`, `10s`.

/// Bytes in the units that are read, by their names in small letters.
const BYTE_UNITS: [(&str, u64); 14] = [
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("kb", 1_000),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
    ("t", 1 << 40),
    ("tib", 1 << 40),
    ("tb", 1_000_000_000_000),
    ("pib", 1 << 50),
];

/// Milliseconds in the units that are read.
const TIME_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// The least and the most that a policy's age may be, in milliseconds.
const LAG_AGE_MS: (u64, u64) = (100, 365 * 86_400_000);
/// The least and the most that a policy's bytes may be.
const LAG_BYTES: (u64, u64) = (1 << 20, 1 << 50);

/// A policy's age of the oldest byte, in milliseconds.
///
/// # Errors
/// What is wrong with the text, for people.
pub fn parse_lag_age(text: &str) -> Result<u64, String> {
    let age_ms = parse_ms(text)?;
    let (least, most) = LAG_AGE_MS;
    match age_ms {
        age_ms if (least..=most).contains(&age_ms) => Ok(age_ms),
        _ => Err("an age is 100ms at least and 365d at most".to_owned()),
    }
}

/// A policy's bytes that may wait for S3.
///
/// # Errors
/// What is wrong with the text, for people.
pub fn parse_lag_bytes(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text)?;
    let (least, most) = LAG_BYTES;
    match bytes {
        bytes if (least..=most).contains(&bytes) => Ok(bytes),
        _ => Err("the bytes are 1MiB at least and 1PiB at most".to_owned()),
    }
}

/// A number of bytes: digits with a unit, or alone. KiB, MiB, … and K, M, … are powers of 1,024, KB, MB, …
/// of 1,000.
///
/// # Errors
/// What is wrong with the text, for people.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || "bytes are a number with a unit: 512KiB, 64MiB, 1.5GiB, 10GB".to_owned();
    let (number, unit) = split(text);
    let unit = unit.to_ascii_lowercase();
    let one = match unit.as_str() {
        "" => 1,
        unit => BYTE_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, one)| *one).ok_or_else(wrong)?,
    };
    times(number, one).ok_or_else(wrong)
}

/// A time in milliseconds: digits with a unit.
///
/// # Errors
/// What is wrong with the text, for people.
pub fn parse_ms(text: &str) -> Result<u64, String> {
    let wrong = || "a time is a number with a unit: 500ms, 10s, 1.5m, 2h, 1d".to_owned();
    let (number, unit) = split(text);
    let one = TIME_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, one)| *one).ok_or_else(wrong)?;
    times(number, one).ok_or_else(wrong)
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

/// A decimal number of something that counts `one`; `None` when it is none, too large, or no whole
/// number of ones. Nothing is rounded.
fn times(number: &str, one: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && part.is_empty()) || part.len() > 12 || (number.contains('.') && part.is_empty()) {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let parts: u128 = if part.is_empty() { 0 } else { part.parse().ok()? };
    let scale = 10_u128.checked_pow(u32::try_from(part.len()).ok()?)?;
    let scaled = parts.checked_mul(u128::from(one))?;
    if scaled % scale != 0 {
        return None;
    }
    u64::try_from(whole.checked_mul(u128::from(one))?.checked_add(scaled / scale)?).ok()
}

/// A time exactly, in the largest unit that it is a whole number of.
#[must_use]
pub fn exact_time(ms: u64) -> String {
    let fits = |(_, one): &&(&str, u64)| ms > 0 && ms.is_multiple_of(*one);
    match TIME_UNITS.iter().rev().find(fits) {
        Some((name, one)) => format!("{}{name}", ms / one),
        None => format!("{ms}ms"),
    }
}

/// Bytes exactly, in the largest binary unit that they are a whole number of.
#[must_use]
pub fn exact_bytes(bytes: u64) -> String {
    let units =
        [("PiB", 1_u64 << 50), ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, one)| bytes > 0 && bytes.is_multiple_of(*one)) {
        Some((name, one)) => format!("{}{name}", bytes / one),
        None => format!("{bytes}B"),
    }
}

/// About how long something took, or is old.
#[must_use]
pub fn about_time(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{}.{} s", seconds, ms % 1_000 / 100),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..172_800 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_in_every_unit() {
        let all = [
            ("1GiB", 1 << 30),
            ("1gib", 1 << 30),
            ("64 MiB", 64 << 20),
            ("1.5GiB", 3 << 29),
            ("0.5K", 512),
            ("10GB", 10_000_000_000),
            ("1073741824", 1 << 30),
            ("7B", 7),
            ("2T", 2 << 40),
            ("16383PiB", 16_383 << 50),
            (".5MiB", 1 << 19),
        ];
        for (text, bytes) in all {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn times_are_read_in_every_unit_and_need_one() {
        let all = [
            ("500ms", 500),
            ("10s", 10_000),
            ("1.5m", 90_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("0s", 0),
        ];
        for (text, ms) in all {
            assert_eq!(parse_ms(text), Ok(ms), "{text}");
        }
        assert!(parse_ms("10").is_err());
    }

    #[test]
    fn what_is_no_number_with_a_unit_is_refused_and_says_what_is() {
        let wrong =
            ["", "GiB", "1XiB", "-1MiB", "1e3", "1.GiB", "1..5K", "1.5B", "0x10", "1 2K", "16384PiB", "٣K"];
        for text in wrong {
            let refused = parse_bytes(text).expect_err(text);
            assert!(refused.contains("64MiB"), "{refused}");
        }
        for text in
            ["", "s", "1", "1 fortnight", "-1s", "1.5ms", "1S", "99999999999999999999d", "1.0000000000001s"]
        {
            let refused = parse_ms(text).expect_err(text);
            assert!(refused.contains("10s"), "{refused}");
        }
    }

    #[test]
    fn a_policy_s_bounds_have_ranges() {
        assert_eq!(parse_lag_age("100ms"), Ok(100));
        assert_eq!(parse_lag_age("365d"), Ok(31_536_000_000));
        assert_eq!(parse_lag_bytes("1MiB"), Ok(1 << 20));
        assert_eq!(parse_lag_bytes("1PiB"), Ok(1 << 50));
        for text in ["99ms", "0s", "366d"] {
            assert!(parse_lag_age(text).expect_err(text).contains("at least"), "{text}");
        }
        for text in ["1048575", "0", "1.5PiB"] {
            assert!(parse_lag_bytes(text).expect_err(text).contains("at least"), "{text}");
        }
        let policy =
            cairn_sdk::types::Policy { max_lag_ms: 100, max_lag_bytes: 1 << 20, ..Default::default() };
        assert_eq!(policy.check(), Ok(()), "what is taken here is what the servers take");
    }

    #[test]
    fn what_is_shown_exactly_reads_back() {
        for ms in [0, 1, 100, 999, 1_000, 90_000, 7_200_000, 86_400_000, 86_400_001] {
            assert_eq!(parse_ms(&exact_time(ms)), Ok(ms));
        }
        for bytes in [0, 1, 1023, 1024, 1 << 20, (1 << 20) + 1, 1 << 30, 3 << 29, 5 << 50] {
            assert_eq!(parse_bytes(&exact_bytes(bytes)), Ok(bytes));
        }
        assert_eq!((exact_time(10_000), exact_bytes(1 << 30)), ("10s".to_owned(), "1GiB".to_owned()));
        let about: Vec<String> = [7, 1_250, 61_000, 3_700_000, 200_000_000].map(about_time).to_vec();
        assert_eq!(about, ["7 ms", "1.2 s", "1 min 1 s", "1 h 1 min", "2 d 7 h"]);
    }
}
