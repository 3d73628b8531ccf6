//! [`RequestCounts`]: what went to S3 since the process began, as S3 counts and bills it.

use std::sync::atomic::{AtomicU64, Ordering};

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// An object, also by a copy; the begin or the end of a multipart upload.
    Put,
    /// A part of a multipart upload.
    Part,
    /// Bytes of an object.
    Get,
    /// What is known of an object, also its tags.
    Head,
    /// Objects, multipart uploads, or the parts of one.
    List,
    /// An object or a multipart upload is removed.
    Delete,
}

impl RequestKind {
    /// The kind of an HTTP request by its method and its URI.
    #[must_use]
    pub fn of(method: &str, uri: &str) -> Self {
        let query = uri.split_once('?').map_or("", |(_, query)| query);
        let has = |name: &str| query.split('&').any(|part| part.split('=').next() == Some(name));
        match method {
            "PUT" if has("partNumber") => Self::Part,
            "POST" if has("delete") => Self::Delete,
            "PUT" | "POST" => Self::Put,
            "HEAD" => Self::Head,
            "DELETE" => Self::Delete,
            _ if has("tagging") => Self::Head,
            _ if ["list-type", "uploads", "uploadId"].into_iter().any(has) => Self::List,
            _ => Self::Get,
        }
    }

    /// The label of the metric.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Part => "part",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// Counts of one node's requests, each attempt for itself.
#[derive(Debug, Default)]
pub struct RequestCounts {
    puts: AtomicU64,
    parts: AtomicU64,
    gets: AtomicU64,
    heads: AtomicU64,
    lists: AtomicU64,
    deletes: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// [`RequestKind::Put`].
    pub puts: u64,
    /// [`RequestKind::Part`].
    pub parts: u64,
    /// [`RequestKind::Get`].
    pub gets: u64,
    /// [`RequestKind::Head`].
    pub heads: u64,
    /// [`RequestKind::List`].
    pub lists: u64,
    /// [`RequestKind::Delete`].
    pub deletes: u64,
    /// Bytes in the bodies of puts and parts.
    pub bytes_up: u64,
    /// Bytes in the bodies of answers to gets.
    pub bytes_down: u64,
}

impl RequestCounts {
    /// One more request goes out, with a body of so many bytes.
    pub fn sent(&self, kind: RequestKind, bytes: u64) {
        let count = match kind {
            RequestKind::Put => &self.puts,
            RequestKind::Part => &self.parts,
            RequestKind::Get => &self.gets,
            RequestKind::Head => &self.heads,
            RequestKind::List => &self.lists,
            RequestKind::Delete => &self.deletes,
        };
        count.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("cairn_data_s3_requests_total", "request" => kind.word()).increment(1);
        if matches!(kind, RequestKind::Put | RequestKind::Part) {
            self.bytes_up.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// The answer to a request of that kind has a body of so many bytes.
    pub fn answered(&self, kind: RequestKind, bytes: u64) {
        if kind == RequestKind::Get {
            self.bytes_down.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// The counts now.
    #[must_use]
    pub fn now(&self) -> Requests {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Requests {
            puts: read(&self.puts),
            parts: read(&self.parts),
            gets: read(&self.gets),
            heads: read(&self.heads),
            lists: read(&self.lists),
            deletes: read(&self.deletes),
            bytes_up: read(&self.bytes_up),
            bytes_down: read(&self.bytes_down),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_as_s3_bills_them() {
        use RequestKind as K;
        for (method, uri, kind) in [
            ("PUT", "http://h/b/k?x-id=PutObject", K::Put),
            ("PUT", "http://h/b/k?partNumber=3&uploadId=u&x-id=UploadPart", K::Part),
            ("POST", "http://h/b/k?uploads", K::Put),
            ("POST", "http://h/b/k?uploadId=u", K::Put),
            ("POST", "http://h/b?delete", K::Delete),
            ("GET", "http://h/b/k?x-id=GetObject", K::Get),
            ("GET", "/b/list-type", K::Get),
            ("GET", "http://h/b?list-type=2&prefix=p%2F", K::List),
            ("GET", "http://h/b?uploads=&prefix=p", K::List),
            ("GET", "http://h/b/k?uploadId=u&x-id=ListParts", K::List),
            ("HEAD", "http://h/b/k", K::Head),
            ("GET", "http://h/b/k?tagging&x-id=GetObjectTagging", K::Head),
            ("PUT", "http://h/b/k?x-id=UploadPartCopy&partNumber=1&uploadId=u", K::Part),
            ("PUT", "http://h/b/k?x-id=CopyObject", K::Put),
            ("DELETE", "http://h/b/k?uploadId=u", K::Delete),
            ("DELETE", "http://h/b/k", K::Delete),
        ] {
            assert_eq!(K::of(method, uri), kind, "{method} {uri}");
        }
    }

    #[test]
    fn each_kind_has_its_count_and_bytes_are_those_of_objects() {
        let counts = RequestCounts::default();
        counts.sent(RequestKind::Put, 10);
        counts.sent(RequestKind::Part, 100);
        counts.sent(RequestKind::Delete, 7);
        counts.sent(RequestKind::Get, 0);
        counts.answered(RequestKind::Get, 1000);
        counts.answered(RequestKind::List, 5);
        let wanted = Requests {
            puts: 1,
            parts: 1,
            deletes: 1,
            gets: 1,
            bytes_up: 110,
            bytes_down: 1000,
            ..Requests::default()
        };
        assert_eq!(counts.now(), wanted);
    }
}
