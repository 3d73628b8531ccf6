//! [`S3Clients`]: one HTTP pool and one credential chain, from which the clients of all buckets
//! are made.

use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    ConfigBag, Intercept, RequestChecksumCalculation, ResponseChecksumValidation, RuntimeComponents,
};
use aws_sdk_s3::error::BoxError;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_types::config_bag::{Storable, StoreReplace};

use super::access::RequesterPays;
use super::{MountBucket, RequestCounts, RequestKind, S3Store};

/// Attempts at one request, the first included.
pub(super) const ATTEMPTS_MAX: u32 = 3;
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(3_100);
/// The region of requests when none is named.
const REGION_DEFAULT: &str = "us-east-1";

/// Makes S3 clients that share connections, credentials and timeouts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct S3Clients {
    shared: SdkConfig,
    timeout: Duration,
    counts: Arc<RequestCounts>,
}

impl S3Clients {
    /// Prepares the usual AWS credential chain (environment, profile files, web identity,
    /// container and instance metadata). Nothing is asked of the network before the first request.
    /// `timeout` bounds one attempt at one request; sending or receiving bytes may take longer, at
    /// 256 KiB/s.
    pub async fn load(timeout: Duration) -> Self {
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .operation_attempt_timeout(timeout)
            .operation_timeout(timeout.saturating_mul(ATTEMPTS_MAX))
            .build();
        let shared = aws_config::defaults(BehaviorVersion::v2026_01_12())
            // Named here, so that the chain does not look for one over the network.
            .region(Region::from_static(REGION_DEFAULT))
            .http_client(http)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX))
            .timeout_config(timeouts)
            .load()
            .await;
        Self { shared, timeout, counts: Arc::default() }
    }

    /// What these clients have sent.
    #[must_use]
    pub fn counts(&self) -> Arc<RequestCounts> {
        Arc::clone(&self.counts)
    }

    /// The store of the keys of `bucket` that begin with `prefix` (empty, or ending in `/`).
    #[must_use]
    pub fn store(&self, bucket: &MountBucket, prefix: &str) -> S3Store {
        let store = S3Store::new(self.client(bucket), &bucket.bucket, prefix, self.timeout);
        store.keeping(bucket.access.keep())
    }

    fn client(&self, bucket: &MountBucket) -> Client {
        let mut config = aws_sdk_s3::config::Builder::from(&self.shared)
            .force_path_style(bucket.force_path_style)
            // Checksums are made and checked here: the SDK's own would turn uploads into signed
            // trailers and fail ranged reads on endpoints that answer with the whole object's.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .interceptor(AttemptCounter { counts: self.counts() });
        if let Some(credentials) = bucket.access.credentials(&self.shared) {
            config = config.credentials_provider(credentials);
        }
        if bucket.access.requester_pays {
            config = config.interceptor(RequesterPays);
        }
        if !bucket.region.is_empty() {
            config = config.region(Region::new(bucket.region.clone()));
        }
        if !bucket.endpoint.is_empty() {
            config = config.endpoint_url(&bucket.endpoint);
        }
        Client::from_conf(config.build())
    }
}

/// Counts attempts: what exceeds the requests is the SDK's retries.
#[derive(Debug)]
struct AttemptCounter {
    counts: Arc<RequestCounts>,
}

/// What an attempt was, for its answer.
#[derive(Debug)]
struct Sent(RequestKind);

impl Storable for Sent {
    type Storer = StoreReplace<Self>;
}

/// What a `content-length` says.
fn length(header: Option<&str>) -> u64 {
    header.and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl Intercept for AttemptCounter {
    fn name(&self) -> &'static str {
        "CairnAttemptCounter"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        metrics::counter!("cairn_data_s3_attempts_total").increment(1);
        Ok(())
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let kind = RequestKind::of(request.method(), request.uri());
        config.interceptor_state().store_put(Sent(kind));
        self.counts.sent(kind, length(request.headers().get("content-length")));
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        if response.status().is_success()
            && let Some(Sent(kind)) = config.load::<Sent>()
        {
            self.counts.answered(*kind, length(response.headers().get("content-length")));
        }
        Ok(())
    }
}
