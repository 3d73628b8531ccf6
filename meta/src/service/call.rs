//! What every request passes first: the handshake, its deadline, and the words in which a
//! failure goes back.

use std::time::Duration;

use cairn_proto::{ServiceError, WireError, handshake};
use cairn_types::ClusterId;
use cairn_types::limits::RPC_DEADLINE_MS;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::node::NodeError;

/// A request is given at most this long, whatever it asks for.
pub const DEADLINE_MAX: Duration = Duration::from_secs(120);
/// What is kept back of a caller's time, so that the typed answer arrives before it gives up.
const RETURN_TRIP: Duration = Duration::from_millis(5);

/// Checks the handshake and answers how long the request may take.
///
/// # Errors
/// FAILED_PRECONDITION for a stranger; UNAVAILABLE while this server knows no cluster.
pub fn admit(map: &MetadataMap, cluster: Option<ClusterId>) -> Result<Duration, Status> {
    handshake::check(map, cluster, false)?;
    if cluster.is_none() {
        return Err(ServiceError::NotLeader { leader_address: String::new() }.into());
    }
    Ok(deadline(map))
}

/// The caller's deadline from `grpc-timeout`; 5 s when it names none or one that is not valid.
#[must_use]
pub fn deadline(map: &MetadataMap) -> Duration {
    map.get("grpc-timeout")
        .and_then(|v| v.to_str().ok())
        .and_then(parse_timeout)
        .map_or(Duration::from_millis(RPC_DEADLINE_MS), |d| d.saturating_sub(RETURN_TRIP).min(DEADLINE_MAX))
}

/// 1 to 8 digits and a unit, as the gRPC specification has it.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

/// A field that is missing or out of range.
pub fn malformed(field: &str) -> WireError {
    ServiceError::Malformed { field: field.to_owned() }.into()
}

impl From<NodeError> for ServiceError {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::NotLeader { leader } => {
                ServiceError::NotLeader { leader_address: leader.map(|(_, a)| a).unwrap_or_default() }
            }
            NodeError::Deadline => ServiceError::Deadline,
            NodeError::NeedsLevel { needs, level } => {
                ServiceError::NeedsLevel { needs: needs.0, level: level.0 }
            }
            NodeError::Overloaded => ServiceError::Overloaded,
            NodeError::Stopping => ServiceError::Stopping,
            NodeError::NotVoter { .. } => ServiceError::Malformed { field: "to".to_owned() },
            NodeError::Silent { node } => ServiceError::MemberUnreachable { node },
            NodeError::Fatal => ServiceError::Internal,
        }
    }
}

impl From<NodeError> for WireError {
    fn from(error: NodeError) -> Self {
        ServiceError::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Request;

    fn with_timeout(text: &'static str) -> Duration {
        let mut map = MetadataMap::new();
        map.insert("grpc-timeout", text.parse().expect("ascii"));
        deadline(&map)
    }

    #[test]
    fn the_callers_deadline_counts_and_is_bounded() {
        assert_eq!(deadline(&MetadataMap::new()), Duration::from_secs(5));
        assert_eq!(with_timeout("250m"), Duration::from_millis(245));
        assert_eq!(with_timeout("3S"), Duration::from_millis(2995));
        assert_eq!(with_timeout("1500000u"), Duration::from_millis(1495));
        assert_eq!(with_timeout("9H"), DEADLINE_MAX);
        for bad in ["", "m", "12", "123456789m", "-1m", "1x"] {
            assert_eq!(with_timeout(bad), Duration::from_secs(5), "{bad:?}");
        }
    }

    #[test]
    fn a_server_without_a_cluster_admits_nobody() {
        let mut request = Request::new(());
        handshake::stamp(&mut request, Some(ClusterId([1; 16])));
        assert!(admit(request.metadata(), Some(ClusterId([1; 16]))).is_ok());
        let code = |cluster| admit(request.metadata(), cluster).map_err(|s| s.code());
        assert_eq!(code(None), Err(tonic::Code::Unavailable));
        assert_eq!(code(Some(ClusterId([2; 16]))), Err(tonic::Code::FailedPrecondition));
    }
}
