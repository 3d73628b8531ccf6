//! [`Access`]: how a mounted bucket is spoken to beyond its name and endpoint. It names where secrets are, and
//! holds none.

use aws_config::SdkConfig;
use aws_config::profile::ProfileFileCredentialsProvider;
#[expect(
    deprecated,
    reason = "the names in aws-runtime are of a crate that is not a dependency of ours"
)]
use aws_config::profile::profile_file::{ProfileFileKind, ProfileFiles};
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};
use cairn_proto::v1;

use super::Properties;

/// How a mounted bucket is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Access {
    /// The profile of the node's AWS configuration; empty: the usual chain of credentials.
    pub profile: String,
    /// The file of credentials on this node; empty: the usual place.
    pub credentials_file: String,
    /// Requests say that the requester pays.
    pub requester_pays: bool,
    /// Encryption of what is written: empty, `AES256`, `aws:kms`.
    pub sse: String,
    /// Its key; empty: the bucket's.
    pub sse_kms_key: String,
    /// Storage class of what is written; empty: the bucket's.
    pub storage_class: String,
}

impl From<&v1::BucketAccess> for Access {
    fn from(access: &v1::BucketAccess) -> Self {
        Self {
            profile: access.profile.clone(),
            credentials_file: access.credentials_file.clone(),
            requester_pays: access.requester_pays,
            sse: access.sse.clone(),
            sse_kms_key: access.sse_kms_key.clone(),
            storage_class: access.storage_class.clone(),
        }
    }
}

impl From<Option<&v1::BucketAccess>> for Access {
    fn from(access: Option<&v1::BucketAccess>) -> Self {
        access.map(Self::from).unwrap_or_default()
    }
}

impl Access {
    /// Where the credentials come from; `None`: as for everything else.
    pub(super) fn credentials(&self, shared: &SdkConfig) -> Option<SharedCredentialsProvider> {
        if self.profile.is_empty() && self.credentials_file.is_empty() {
            return None;
        }
        let mut config = ProviderConfig::empty().with_region(shared.region().cloned());
        if let Some(http) = shared.http_client() {
            config = config.with_http_client(http);
        }
        let mut provider = ProfileFileCredentialsProvider::builder().configure(&config);
        if !self.profile.is_empty() {
            provider = provider.profile_name(&self.profile);
        }
        if !self.credentials_file.is_empty() {
            provider = provider.profile_files(self.files());
        }
        Some(SharedCredentialsProvider::new(provider.build()))
    }

    /// The usual configuration, and the file in the place of the usual credentials.
    #[expect(deprecated, reason = "as above")]
    fn files(&self) -> ProfileFiles {
        ProfileFiles::builder()
            .include_default_config_file(true)
            .with_file(ProfileFileKind::Credentials, &self.credentials_file)
            .build()
    }

    pub(super) fn keep(&self) -> Keep {
        let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Keep {
            sse: some(&self.sse).map(|text| ServerSideEncryption::from(text.as_str())),
            kms_key: some(&self.sse_kms_key),
            storage_class: some(&self.storage_class).map(|text| StorageClass::from(text.as_str())),
        }
    }
}

/// How what is written is kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Keep {
    pub(super) sse: Option<ServerSideEncryption>,
    pub(super) kms_key: Option<String>,
    storage_class: Option<StorageClass>,
}

impl Keep {
    /// The storage class of an object: the mount's, else the one that the object had.
    pub(super) fn storage_class(&self, properties: &Properties) -> Option<StorageClass> {
        let had = || properties.storage_class.as_deref().map(StorageClass::from);
        self.storage_class.clone().or_else(had)
    }
}

/// Says in each request that the requester pays.
#[derive(Debug)]
pub(super) struct RequesterPays;

impl Intercept for RequesterPays {
    fn name(&self) -> &'static str {
        "CairnRequesterPays"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        context.request_mut().headers_mut().insert("x-amz-request-payer", "requester");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aws_config::BehaviorVersion;
    use aws_credential_types::provider::ProvideCredentials;

    use super::*;

    #[tokio::test]
    async fn credentials_come_from_the_file_and_the_profile_that_are_named() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("credentials");
        let section =
            |name: &str| format!("[{name}]\naws_access_key_id = of-{name}\naws_secret_access_key = secret\n");
        std::fs::write(&file, section("default") + &section("other")).unwrap();
        let shared = SdkConfig::builder().behavior_version(BehaviorVersion::v2026_01_12()).build();
        let credentials_file = file.to_str().unwrap().to_owned();
        let named = |profile: &str| Access {
            profile: profile.to_owned(),
            credentials_file: credentials_file.clone(),
            ..Access::default()
        };
        for (profile, key) in [("", "of-default"), ("other", "of-other")] {
            let provider = named(profile).credentials(&shared).unwrap();
            assert_eq!(provider.provide_credentials().await.unwrap().access_key_id(), key);
        }
        let missing = named("nobody").credentials(&shared).unwrap();
        assert!(missing.provide_credentials().await.is_err());
        assert!(Access::default().credentials(&shared).is_none(), "the usual chain");
    }
}
