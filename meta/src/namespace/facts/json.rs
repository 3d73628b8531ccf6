//! How bytes, ids and modes are written in the lines of a dump.

/// Bytes: a string when they are text without control characters, else `{"hex": "…"}`. What is read
/// may be either, whatever the bytes are.
pub mod text {
    use serde::de::Error;
    use serde::ser::SerializeMap;
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Text {
        Plain(String),
        Coded(Hex),
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Hex {
        hex: String,
    }

    /// Writes bytes.
    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = std::str::from_utf8(bytes)
            && !text.chars().any(char::is_control)
        {
            return to.serialize_str(text);
        }
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut map = to.serialize_map(Some(1))?;
        map.serialize_entry("hex", &digits)?;
        map.end()
    }

    /// Reads bytes.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        match Text::deserialize(from)? {
            Text::Plain(text) => Ok(text.into_bytes()),
            Text::Coded(Hex { hex }) => {
                bytes(&hex).ok_or_else(|| D::Error::custom("hexadecimal digits, two for a byte"))
            }
        }
    }

    fn bytes(digits: &str) -> Option<Vec<u8>> {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let pairs = digits.as_bytes().chunks(2).map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
            _ => None,
        });
        pairs.collect()
    }
}

/// Bytes that may be absent.
pub mod maybe_text {
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    struct Bytes(#[serde(with = "super::text")] Vec<u8>);

    /// Writes bytes.
    pub fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => super::text::serialize(bytes, to),
            None => to.serialize_none(),
        }
    }

    /// Reads bytes.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
        Ok(Option::<Bytes>::deserialize(from)?.map(|bytes| bytes.0))
    }
}

/// Ids of 16 bytes: 32 hexadecimal digits.
pub mod wide {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes an id.
    pub fn serialize<T: Display, S: Serializer>(id: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    /// Reads an id.
    pub fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Permission bits: four octal digits.
pub mod octal {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes a mode.
    pub fn serialize<S: Serializer>(mode: &u32, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{mode:04o}"))
    }

    /// Reads a mode.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        u32::from_str_radix(&String::deserialize(from)?, 8).map_err(D::Error::custom)
    }
}

/// A key space of extents: the number of a file, or `{"later": n}` for the `n`th that was made for a
/// file which was cut.
pub mod content {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::keys::contents::ContentId;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Content {
        Own(u64),
        Later { later: u64 },
    }

    /// Writes a content.
    pub fn serialize<S: Serializer>(id: &ContentId, to: S) -> Result<S::Ok, S::Error> {
        let content = id.number().map_or(Content::Own(id.0), |later| Content::Later { later });
        content.serialize(to)
    }

    /// Reads a content.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ContentId, D::Error> {
        Ok(match Content::deserialize(from)? {
            Content::Own(ino) => ContentId(ino),
            Content::Later { later } => ContentId::later(later),
        })
    }
}
