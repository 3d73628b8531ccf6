//! From the configured URL to a store.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use cairn_types::Clock;
use cairn_types::random::Random;

use super::{Access, DirectoryStore, MeteredStore, MountBucket, S3Clients, UnderStore, UnderStoreError};
use crate::config::UnderStoreConfig;

/// Where an under-store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `s3://bucket/prefix`.
    S3 {
        /// The bucket.
        bucket: String,
        /// Empty, or ending in `/`.
        prefix: String,
    },
    /// `file:///absolute/directory`.
    Directory(PathBuf),
}

/// Why an under-store could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// The URL is neither `s3://bucket/prefix` nor `file:///absolute/directory`.
    #[error("'{url}' is neither s3://bucket/prefix nor file:///absolute/directory")]
    BadUrl {
        /// The URL.
        url: String,
    },
    /// The directory is missing or cannot be used.
    #[error(transparent)]
    Store(#[from] UnderStoreError),
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(url: &str) -> Result<Self, LocationError> {
        let bad = || LocationError::BadUrl { url: url.to_owned() };
        if let Some(path) = url.strip_prefix("file://") {
            let path = PathBuf::from(path);
            return if path.is_absolute() { Ok(Self::Directory(path)) } else { Err(bad()) };
        }
        let rest = url.strip_prefix("s3://").ok_or_else(bad)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(bad());
        }
        let prefix = prefix.trim_end_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix })
    }
}

/// Opens the cluster's own under-store, metered. Nothing is asked of S3 yet; a directory is made
/// when it is missing.
///
/// # Errors
/// [`LocationError`] for a bad URL or a directory that cannot be used.
pub async fn open(
    config: &UnderStoreConfig,
    clients: &S3Clients,
    clock: Arc<dyn Clock>,
    random: &dyn Random,
) -> Result<Arc<dyn UnderStore>, LocationError> {
    Ok(match config.url.parse()? {
        Location::S3 { bucket, prefix } => {
            let bucket = MountBucket {
                bucket,
                endpoint: config.endpoint.clone(),
                region: config.region.clone(),
                force_path_style: config.force_path_style,
                access: Access::default(),
            };
            Arc::new(MeteredStore::new(clients.store(&bucket, &prefix), clock))
        }
        Location::Directory(path) => {
            let store = DirectoryStore::open(&path, clock.as_ref(), random).await?;
            Arc::new(MeteredStore::new(store, clock).counting(clients.counts()))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_bucket_or_a_directory() {
        let s3 = |bucket: &str, prefix: &str| {
            Ok(Location::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
        };
        assert_eq!("s3://b".parse(), s3("b", ""));
        assert_eq!("s3://b/".parse(), s3("b", ""));
        assert_eq!("s3://b/p/q".parse(), s3("b", "p/q/"));
        assert_eq!("s3://b/p/".parse(), s3("b", "p/"));
        assert_eq!("file:///d".parse(), Ok(Location::Directory("/d".into())));
        for bad in ["", "s3://", "s3:///p", "file://d", "http://x/y"] {
            assert_eq!(bad.parse::<Location>(), Err(LocationError::BadUrl { url: bad.to_owned() }));
        }
    }
}
