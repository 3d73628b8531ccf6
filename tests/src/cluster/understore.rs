//! [`UnderStore`]: where the data nodes of a cluster write through to.

use std::path::Path;

use super::ClusterError;
use crate::s3_server::Bucket;

/// Where the data nodes write through to.
#[derive(Clone, Debug)]
pub enum UnderStore {
    /// Nowhere.
    None,
    /// A directory of the cluster's own.
    Directory,
    /// A bucket.
    S3 {
        /// `http://host:port`.
        endpoint: String,
        /// `s3://bucket/prefix`.
        url: String,
        /// Credentials, given by the environment.
        access_key: String,
        /// Credentials, given by the environment.
        secret_key: String,
    },
}

impl UnderStore {
    /// A prefix of a bucket.
    #[must_use]
    pub fn bucket(bucket: &Bucket, prefix: &str) -> Self {
        Self::bucket_at(bucket.endpoint(), bucket, prefix)
    }

    /// The same, reached at `endpoint`: a fault proxy's.
    #[must_use]
    pub fn bucket_at(endpoint: &str, bucket: &Bucket, prefix: &str) -> Self {
        Self::S3 {
            endpoint: endpoint.to_owned(),
            url: bucket.url(prefix),
            access_key: bucket.access_key().to_owned(),
            secret_key: bucket.secret_key().to_owned(),
        }
    }

    /// Its table in a data node's configuration; makes the directory.
    pub(super) fn toml(&self, directory: &Path) -> Result<String, ClusterError> {
        match self {
            Self::None => Ok(String::new()),
            Self::Directory => {
                let store = directory.join("store");
                std::fs::create_dir_all(&store).map_err(|source| ClusterError::Io {
                    action: "make",
                    subject: store.display().to_string(),
                    source,
                })?;
                Ok(format!("[understore]\nurl = \"file://{}\"\n", store.display()))
            }
            Self::S3 { endpoint, url, .. } => Ok(format!(
                "[understore]\nurl = {url:?}\nendpoint = {endpoint:?}\nregion = \"us-east-1\"\nforce_path_style = true\n"
            )),
        }
    }

    /// What the servers' environment says of it.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        match self {
            Self::S3 { access_key, secret_key, .. } => vec![
                ("AWS_ACCESS_KEY_ID".to_owned(), access_key.clone()),
                ("AWS_SECRET_ACCESS_KEY".to_owned(), secret_key.clone()),
                ("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned()),
            ],
            Self::None | Self::Directory => Vec::new(),
        }
    }
}
