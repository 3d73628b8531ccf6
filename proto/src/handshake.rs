//! The metadata entries that every request carries, and their check.

use std::ops::RangeInclusive;

use cairn_types::ClusterId;
use cairn_types::limits::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use crate::ServiceError;

/// Metadata key of the cluster id, 32 hexadecimal digits.
pub const CLUSTER_KEY: &str = "cairn-cluster-id";
/// Metadata key of the protocol version, a decimal number.
pub const PROTOCOL_KEY: &str = "cairn-protocol";

/// Metadata key of the lowest protocol version that the caller still speaks; absent: the one that it names.
pub const PROTOCOL_MIN_KEY: &str = "cairn-protocol-min";

/// Stamps a request with the protocol version and, when known, the cluster's id.
pub fn stamp<T>(request: &mut Request<T>, cluster: Option<ClusterId>) {
    let map = request.metadata_mut();
    map.insert(PROTOCOL_KEY, PROTOCOL_VERSION.into());
    map.insert(PROTOCOL_MIN_KEY, PROTOCOL_VERSION_MIN.into());
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
    check_protocol(map, PROTOCOL_VERSION_MIN..=PROTOCOL_VERSION)?;
    let Some(ours) = ours else { return Ok(()) };
    let theirs = map.get(CLUSTER_KEY).and_then(|v| v.to_str().ok()).map(str::parse::<ClusterId>);
    match theirs {
        None if first_contact => Ok(()),
        Some(Ok(theirs)) if theirs == ours => Ok(()),
        _ => Err(ServiceError::ForeignCluster.into()),
    }
}

/// Refuses a caller whose versions and `ours` have none in common.
fn check_protocol(map: &MetadataMap, ours: RangeInclusive<u32>) -> Result<(), ServiceError> {
    let number = |key| map.get(key).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u32>().ok());
    let theirs = number(PROTOCOL_KEY).unwrap_or(0);
    let lowest = number(PROTOCOL_MIN_KEY).unwrap_or(theirs);
    if theirs >= *ours.start() && lowest <= *ours.end() {
        Ok(())
    } else {
        Err(ServiceError::ForeignProtocol { theirs, ours: *ours.end() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_talk_when_they_have_a_version_in_common() {
        let told = |version: u32, lowest: Option<u32>| {
            let mut map = MetadataMap::new();
            map.insert(PROTOCOL_KEY, version.into());
            if let Some(lowest) = lowest {
                map.insert(PROTOCOL_MIN_KEY, lowest.into());
            }
            map
        };
        let talks = |version, lowest, ours| check_protocol(&told(version, lowest), ours).is_ok();
        assert!(talks(3, None, 3..=3) && talks(3, Some(3), 3..=3));
        assert!(talks(4, Some(3), 3..=3), "an old server hears a new caller that still speaks the old one");
        assert!(talks(3, None, 3..=4), "a new server hears an old caller");
        assert!(!talks(4, None, 3..=3) && !talks(4, Some(4), 3..=3));
        assert!(!talks(3, Some(3), 4..=5) && !talks(2, Some(1), 3..=4));
        let refused = check_protocol(&MetadataMap::new(), 3..=4);
        assert_eq!(refused, Err(ServiceError::ForeignProtocol { theirs: 0, ours: 4 }));
    }
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
