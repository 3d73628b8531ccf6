//! What an answer of the AWS SDK means: the one table of S3's error codes.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::UnderStoreError;

/// What `error` means for a request about `key` in `bucket`.
pub(super) fn classify<E>(error: &SdkError<E, HttpResponse>, bucket: &str, key: &str) -> UnderStoreError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    // No credentials is found out before anything is sent; the SDK wraps it several times.
    if let Some(code) = credentials_code(error) {
        return UnderStoreError::Denied { code: code.to_owned() };
    }
    match error {
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            by_code(answer.err().code().unwrap_or_default(), status, bucket, key)
        }
        // A status that is no error with a body that does not parse, or an error page of a proxy.
        SdkError::ResponseError(answer) if answer.raw().status().as_u16() >= 400 => {
            by_code("", answer.raw().status().as_u16(), bucket, key)
        }
        SdkError::ConstructionFailure(_) => {
            UnderStoreError::Other { code: "InvalidRequest".to_owned(), status: 0 }
        }
        _ => UnderStoreError::Unreachable,
    }
}

/// The meaning of an error answer with this code (empty in answers to HEAD) and status.
pub(super) fn by_code(code: &str, status: u16, bucket: &str, key: &str) -> UnderStoreError {
    let named = || if code.is_empty() { format!("status {status}") } else { code.to_owned() };
    match (code, status) {
        ("NoSuchBucket", _) => UnderStoreError::NoSuchBucket { bucket: bucket.to_owned() },
        ("NoSuchUpload", _) => UnderStoreError::Other { code: code.to_owned(), status },
        // The completion of an upload may begin as 200 and end as this.
        ("InternalError", _) => UnderStoreError::Other { code: code.to_owned(), status: 500 },
        ("PreconditionFailed", _) | (_, 412) => UnderStoreError::PreconditionFailed { key: key.to_owned() },
        // A body that did not survive the way is sent again.
        ("BadDigest" | "XAmzContentChecksumMismatch" | "IncompleteBody", _) => {
            UnderStoreError::Corrupt { key: key.to_owned() }
        }
        ("KeyTooLongError", _) => UnderStoreError::InvalidKey { key: key.to_owned() },
        ("RequestTimeout", _) | (_, 408) => UnderStoreError::Unreachable,
        (
            "SlowDown"
            | "ServiceUnavailable"
            | "TooManyRequests"
            | "RequestLimitExceeded"
            | "ConditionalRequestConflict"
            | "OperationAborted",
            _,
        )
        | (_, 429 | 503) => UnderStoreError::Throttled { code: named() },
        (_, 401 | 403) => UnderStoreError::Denied { code: named() },
        ("NoSuchKey", _) | (_, 404) => UnderStoreError::NoSuchKey { key: key.to_owned() },
        _ => UnderStoreError::Other { code: named(), status },
    }
}

/// A code when the credentials are what failed.
fn credentials_code(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(reason) = error.downcast_ref::<CredentialsError>() {
            return Some(match reason {
                CredentialsError::CredentialsNotLoaded(_) => "NoCredentials",
                CredentialsError::ProviderTimedOut(_) => "CredentialsTimedOut",
                CredentialsError::InvalidConfiguration(_) => "InvalidCredentialsConfiguration",
                _ => "CredentialsProviderFailed",
            });
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_says_what_to_do() {
        let meaning = |code: &str, status| by_code(code, status, "b", "k");
        for (code, status) in [("SlowDown", 503), ("", 429), ("ConditionalRequestConflict", 409)] {
            assert!(matches!(meaning(code, status), UnderStoreError::Throttled { .. }), "{code}");
            assert!(meaning(code, status).retryable());
        }
        for (code, status) in
            [("AccessDenied", 403), ("InvalidAccessKeyId", 403), ("RequestTimeTooSkewed", 403), ("", 401)]
        {
            let error = meaning(code, status);
            assert!(matches!(error, UnderStoreError::Denied { .. }), "{code}");
            assert!(!error.retryable());
            assert!(error.to_string().contains(code), "{error}");
        }
        assert_eq!(meaning("NoSuchBucket", 404), UnderStoreError::NoSuchBucket { bucket: "b".into() });
        assert_eq!(meaning("", 404), UnderStoreError::NoSuchKey { key: "k".into() });
        assert_eq!(meaning("", 412), UnderStoreError::PreconditionFailed { key: "k".into() });
        assert!(meaning("InternalError", 200).retryable());
        assert!(meaning("", 502).retryable());
        assert!(!meaning("InvalidRange", 416).retryable());
        assert!(meaning("BadDigest", 400).retryable());
    }
}
