//! [`TraceId`]: the number by which one operation of a client is found in the logs of all processes that
//! had to do with it.

use std::fmt;

use tonic::Request;
use tonic::metadata::MetadataMap;

/// Metadata key of the trace id, 16 hexadecimal digits.
pub const TRACE_KEY: &str = "cairn-trace";

/// The number of one operation of a client, made at random by whoever begins it. The same in all that is
/// asked of servers for it, retries and what servers ask of each other included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(pub u64);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl TraceId {
    /// Puts it into a request.
    pub fn stamp<T>(self, request: &mut Request<T>) {
        if let Ok(value) = self.to_string().parse() {
            request.metadata_mut().insert(TRACE_KEY, value);
        }
    }

    /// The one in a request; `None` when there is none, or what is there is no such number.
    #[must_use]
    pub fn of(map: &MetadataMap) -> Option<Self> {
        let text = map.get(TRACE_KEY)?.to_str().ok().filter(|text| text.len() == 16)?;
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_goes_with_a_request() {
        let mut request = Request::new(());
        assert_eq!(TraceId::of(request.metadata()), None);
        TraceId(0xbeef).stamp(&mut request);
        assert_eq!(request.metadata().get(TRACE_KEY).unwrap(), "000000000000beef");
        assert_eq!(TraceId::of(request.metadata()), Some(TraceId(0xbeef)));
        for wrong in ["beef", "000000000000beefg", "00000000000000zz"] {
            request.metadata_mut().insert(TRACE_KEY, wrong.parse().unwrap());
            assert_eq!(TraceId::of(request.metadata()), None, "{wrong}");
        }
    }
}
