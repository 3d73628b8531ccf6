//! Names of failure domains: zones and hosts, as operators write them.

/// Bytes in a name, at most.
pub const DOMAIN_NAME_BYTES_MAX: usize = 64;

/// True for a name that a zone or a host may have: letters and digits of ASCII, `-`, `_` and `.`, 64 at
/// most. The empty name, which says that there is none, is no name.
#[must_use]
pub fn is_domain_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=DOMAIN_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for good in ["a", "eu-central-1a", "rack_7.row.2", &"z".repeat(64)] {
            assert!(is_domain_name(good), "{good}");
        }
        for bad in ["", "a b", "zone/1", "zoné", "a\n", &"z".repeat(65)] {
            assert!(!is_domain_name(bad), "{bad:?}");
        }
    }
}
