//! [`LeftOut`]: keys that no name can be made of, and why.

use cairn_types::Name;

/// Why a key has no name in the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeftOut {
    /// Two slashes follow on one another.
    Empty,
    /// A part is `.` or `..`.
    Dots,
    /// A part holds a NUL.
    Nul,
    /// A part is longer than a name may be.
    TooLong,
    /// A directory's marker (a key with a slash at its end) that holds bytes: the directory is there, the
    /// bytes have no name.
    MarkerWithBytes,
    /// A directory has its name, and something else the longer name that it would get.
    NamesTaken,
}

impl LeftOut {
    /// Why `part`, what lies between two slashes of a key, is no name; `None` when it is one.
    #[must_use]
    pub fn of(part: &str) -> Option<Self> {
        if Name::new(part).is_ok() {
            return None;
        }
        Some(match part {
            "" => Self::Empty,
            "." | ".." => Self::Dots,
            part if part.contains('\0') => Self::Nul,
            _ => Self::TooLong,
        })
    }

    /// For people.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::Empty => "an empty name: two slashes follow on one another",
            Self::Dots => "'.' and '..' are no names",
            Self::Nul => "a name with a NUL",
            Self::TooLong => "a name of over 255 bytes",
            Self::MarkerWithBytes => "a directory's marker that holds bytes",
            Self::NamesTaken => "a directory has its name, and another object the longer one",
        }
    }

    /// Its word in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Dots => "dots",
            Self::Nul => "nul",
            Self::TooLong => "too_long",
            Self::MarkerWithBytes => "marker_with_bytes",
            Self::NamesTaken => "names_taken",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_that_is_no_name_says_why() {
        let long = "n".repeat(256);
        let parts = [
            ("", LeftOut::Empty),
            (".", LeftOut::Dots),
            ("..", LeftOut::Dots),
            ("a\0b", LeftOut::Nul),
            (long.as_str(), LeftOut::TooLong),
        ];
        for (part, why) in parts {
            assert_eq!(LeftOut::of(part), Some(why), "{part:?}");
        }
        for part in ["a", "...", " ", "-", "ä", &long[..255]] {
            assert_eq!(LeftOut::of(part), None, "{part:?}");
        }
    }
}
