//! The two metadata entries that every request carries, and their check.

use cairn_types::ClusterId;
use cairn_types::limits::PROTOCOL_VERSION;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use crate::ServiceError;

/// Metadata key of the cluster id, 32 hexadecimal digits.
pub const CLUSTER_KEY: &str = "cairn-cluster-id";
/// Metadata key of the protocol version, a decimal number.
pub const PROTOCOL_KEY: &str = "cairn-protocol";

/// Stamps a request with the protocol version and, when known, the cluster's id.
pub fn stamp<T>(request: &mut Request<T>, cluster: Option<ClusterId>) {
    let map = request.metadata_mut();
    map.insert(PROTOCOL_KEY, PROTOCOL_VERSION.into());
    if let Some(id) = cluster
        && let Ok(value) = id.to_string().parse()
    {
        map.insert(CLUSTER_KEY, value);
    }
}

/// Checks a request's entries against this server's cluster.
///
/// `ours` is `None` while the cluster is forming; `first_contact` allows a peer that does not
/// know the cluster's id yet.
///
/// # Errors
/// FAILED_PRECONDITION with [`ServiceError::ForeignCluster`] or [`ServiceError::ForeignProtocol`].
pub fn check(map: &MetadataMap, ours: Option<ClusterId>, first_contact: bool) -> Result<(), Status> {
    let protocol = map.get(PROTOCOL_KEY).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u32>().ok());
    if protocol != Some(PROTOCOL_VERSION) {
        return Err(
            ServiceError::ForeignProtocol { theirs: protocol.unwrap_or(0), ours: PROTOCOL_VERSION }.into()
        );
    }
    let Some(ours) = ours else { return Ok(()) };
    let theirs = map.get(CLUSTER_KEY).and_then(|v| v.to_str().ok()).map(str::parse::<ClusterId>);
    match theirs {
        None if first_contact => Ok(()),
        Some(Ok(theirs)) if theirs == ours => Ok(()),
        _ => Err(ServiceError::ForeignCluster.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn strangers_are_refused() {
        let ours = ClusterId([1; 16]);
        let mut request = Request::new(());
        let code = |r: Result<(), Status>| r.map_err(|s| s.code());
        assert_eq!(code(check(request.metadata(), Some(ours), true)), Err(Code::FailedPrecondition));
        stamp(&mut request, None);
        assert_eq!(code(check(request.metadata(), Some(ours), true)), Ok(()));
        assert_eq!(code(check(request.metadata(), Some(ours), false)), Err(Code::FailedPrecondition));
        stamp(&mut request, Some(ClusterId([2; 16])));
        assert_eq!(code(check(request.metadata(), Some(ours), true)), Err(Code::FailedPrecondition));
        stamp(&mut request, Some(ours));
        assert_eq!(code(check(request.metadata(), Some(ours), false)), Ok(()));
    }
}
