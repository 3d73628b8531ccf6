//! [`Bucket`]: a bucket of an S3 server, and what a client needs to use it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region};
use aws_sdk_s3::error::{DisplayErrorContext, SdkError};
use aws_sdk_s3::operation::create_bucket::CreateBucketError;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::tls;

pub(super) const ACCESS_KEY: &str = "cairn-test-access";
pub(super) const SECRET_KEY: &str = "cairn-test-secret-0123456789";
const REGION: &str = "us-east-1";

/// A bucket of an S3 server: an address, which does not keep the server alive.
#[derive(Clone, Debug)]
pub struct Bucket {
    endpoint: String,
    name: String,
    server_directory: PathBuf,
}

impl Bucket {
    pub(super) fn new(endpoint: String, name: &str, server_directory: &Path) -> Self {
        Self { endpoint, name: name.to_owned(), server_directory: server_directory.to_owned() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server's endpoint: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// `s3://bucket/prefix`.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{}/{prefix}", self.name)
    }

    /// Where the server keeps its data and its log.
    pub fn server_directory(&self) -> &Path {
        &self.server_directory
    }

    /// The access key id that may do everything.
    pub fn access_key(&self) -> &'static str {
        ACCESS_KEY
    }

    /// The secret to [`access_key`](Self::access_key).
    pub fn secret_key(&self) -> &'static str {
        SECRET_KEY
    }

    /// The region that requests are signed for.
    pub fn region(&self) -> &'static str {
        REGION
    }

    /// A client of the server: path style, no retries, 10 s an operation. To be kept: each has its own
    /// connections, which live on the runtime that uses it first.
    pub fn client(&self) -> Client {
        self.client_at(&self.endpoint)
    }

    /// The same client, but connecting to `endpoint` (a fault proxy's, for instance).
    pub fn client_at(&self, endpoint: &str) -> Client {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(2))
            .operation_timeout(Duration::from_secs(10))
            .build();
        Client::from_conf(self.client_config(endpoint).timeout_config(timeouts).build())
    }

    /// What [`client_at`](Self::client_at) is made from, to be changed; has no timeouts yet.
    pub fn client_config(&self, endpoint: &str) -> Builder {
        let credentials = Credentials::builder()
            .access_key_id(ACCESS_KEY)
            .secret_access_key(SECRET_KEY)
            .provider_name("cairn-tests")
            .build();
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build_https();
        aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(endpoint)
            .region(Region::new(REGION))
            .credentials_provider(credentials)
            .http_client(http)
            .force_path_style(true)
            .retry_config(RetryConfig::disabled())
    }

    /// Makes it; that it is there already is fine.
    pub(super) async fn create(&self, client: &Client) -> Result<(), SdkError<CreateBucketError>> {
        match client.create_bucket().bucket(&self.name).send().await {
            Err(SdkError::ServiceError(error))
                if error.err().is_bucket_already_owned_by_you() || error.err().is_bucket_already_exists() =>
            {
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Makes it if it is not there, and writes, reads and removes an object: a listening port alone says
    /// little. Answers what failed.
    pub(super) async fn try_out(&self, client: &Client) -> Result<(), String> {
        let key = ".cairn-ready";
        self.create(client).await.map_err(|error| described(&error))?;
        let body = ByteStream::from_static(b"ready");
        let put = client.put_object().bucket(&self.name).key(key).body(body).send().await;
        put.map_err(|error| described(&error))?;
        let got = client.get_object().bucket(&self.name).key(key).send().await;
        got.map_err(|error| described(&error))?;
        let deleted = client.delete_object().bucket(&self.name).key(key).send().await;
        deleted.map(drop).map_err(|error| described(&error))
    }
}

fn described(error: &dyn std::error::Error) -> String {
    DisplayErrorContext(error).to_string()
}
