//! Configuration in layers: default, TOML file, environment, flags.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// Why the configuration is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read the configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("the configuration {path} is not valid TOML: {source}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A key is unknown, or a value does not fit.
    #[error("the configuration{} is wrong: {source}", file.as_ref().map_or(String::new(), |f| format!(" {}", f.display())))]
    Invalid {
        /// The file, if there is one; the environment or a flag may be at fault too.
        file: Option<PathBuf>,
        /// Which key, and why.
        source: Box<toml::de::Error>,
    },
    /// The configuration in force cannot be shown.
    #[error("the configuration cannot be written as TOML: {0}")]
    Show(#[from] toml::ser::Error),
}

/// A value that a flag sets, by its dotted key.
pub type Flag = (&'static str, Option<Value>);

/// Reads a configuration: `T`'s default, then `file`, then the environment's `PREFIX_KEY`
/// variables, then `flags`. `optional` names keys that the default leaves out, with a sample of
/// their type. Unknown keys are errors that name the key.
///
/// # Errors
/// [`ConfigError`] says what is wrong and where.
pub fn layered<T>(
    file: Option<&Path>,
    prefix: &str,
    optional: &[(&str, Value)],
    flags: Vec<Flag>,
) -> Result<T, ConfigError>
where
    T: Default + Serialize + DeserializeOwned,
{
    let defaults = Table::try_from(T::default())?;
    let mut table = Table::new();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        table = toml::from_str(&text)
            .map_err(|source| ConfigError::Toml { path: path.to_owned(), source: Box::new(source) })?;
    }
    let optional = optional.iter().map(|(key, sample)| ((*key).to_owned(), sample.clone()));
    for (key, sample) in leaves(&defaults).into_iter().chain(optional) {
        let name = format!("{prefix}_{}", key.replace('.', "_").to_uppercase());
        if let Ok(text) = std::env::var(&name) {
            set(&mut table, &key, typed(&text, &sample));
        }
    }
    for (key, value) in flags {
        if let Some(value) = value {
            set(&mut table, key, value);
        }
    }
    let wrong = |e| ConfigError::Invalid { file: file.map(Path::to_path_buf), source: Box::new(e) };
    table.try_into().map_err(wrong)
}

/// The configuration as TOML.
///
/// # Errors
/// [`ConfigError::Show`].
pub fn show<T: Serialize>(config: &T) -> Result<String, ConfigError> {
    Ok(toml::to_string_pretty(config)?)
}

/// Every key that holds a value, dotted, with the default as a sample of its type.
fn leaves(table: &Table) -> Vec<(String, Value)> {
    let mut out = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => {
                out.extend(leaves(inner).into_iter().map(|(k, v)| (format!("{key}.{k}"), v)));
            }
            other => out.push((key.clone(), other.clone())),
        }
    }
    out
}

/// An environment variable's text as the type of the key's default. What does not parse stays
/// text, which the check of the whole then refuses by the key's name.
fn typed(text: &str, sample: &Value) -> Value {
    let raw = || Value::String(text.to_owned());
    match sample {
        Value::Integer(_) => text.parse().map_or_else(|_| raw(), Value::Integer),
        Value::Float(_) => text.parse().map_or_else(|_| raw(), Value::Float),
        Value::Boolean(_) => text.parse().map_or_else(|_| raw(), Value::Boolean),
        Value::Array(_) => Value::Array(
            text.split(',').filter(|s| !s.is_empty()).map(|s| Value::String(s.trim().to_owned())).collect(),
        ),
        _ => raw(),
    }
}

fn set(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = table.entry(first.to_owned()).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Sample {
        id: u64,
        listen: String,
        peers: Vec<String>,
        policy: Inner,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        replicas: u8,
    }

    impl Default for Inner {
        fn default() -> Self {
            Self { replicas: 3 }
        }
    }

    impl Default for Sample {
        fn default() -> Self {
            Self { id: 0, listen: "here".into(), peers: vec!["a".into()], policy: Inner::default() }
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, "id = 3\nlisten = 'there'\n[policy]\nreplicas = 2\n").unwrap();
        let flags = vec![("listen", Some(Value::String("flag".into()))), ("peers", None)];
        let read: Sample = layered(Some(&path), "CAIRN_TEST_NONE", &[], flags).unwrap();
        assert_eq!(read.id, 3);
        assert_eq!(read.listen, "flag");
        assert_eq!(read.peers, ["a"]);
        assert_eq!(read.policy.replicas, 2);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, "lissten = 'there'\n").unwrap();
        let error = layered::<Sample>(Some(&path), "CAIRN_TEST_NONE", &[], vec![]).unwrap_err();
        assert!(error.to_string().contains("lissten"), "{error}");
    }
}
