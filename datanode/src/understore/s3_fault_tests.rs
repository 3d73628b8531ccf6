//! The S3 client against answers that are late, cut, wrong or missing. What S3 does when it works
//! is for suite.rs, with a real server; this one only ever says what a test tells it to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::suite::{object, random_bytes};
use super::*;

/// What the next request gets.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The connection is closed when the whole request is there.
    Nothing,
    /// Status line, headers and body; the connection is closed after it.
    Says(String),
    /// As `Says`, after a while.
    Late(Duration, String),
}

pub(crate) fn says(status: &str, headers: &str, body: &str) -> Answer {
    let length = if headers.contains("Content-Length") {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    Answer::Says(format!("HTTP/1.1 {status}\r\n{length}Connection: close\r\n{headers}\r\n{body}"))
}

pub(crate) fn error(status: &str, code: &str) -> Answer {
    says(status, "Content-Type: application/xml\r\n", &format!("<Error><Code>{code}</Code></Error>"))
}

pub(crate) fn part(range: &str, etag: &str, body: &str) -> Answer {
    let headers = format!("Content-Range: bytes {range}\r\nETag: \"{etag}\"\r\n");
    says("206 Partial Content", &headers, body)
}

/// A store whose endpoint gives `answers` in order, and the request lines it got.
pub(crate) async fn endpoint(answers: Vec<Answer>) -> (S3Store, mpsc::UnboundedReceiver<String>) {
    let (store, told, _) = counted_endpoint(answers).await;
    (store, told)
}

/// The same, and what the store's clients count.
async fn counted_endpoint(
    answers: Vec<Answer>,
) -> (S3Store, mpsc::UnboundedReceiver<String>, Arc<RequestCounts>) {
    scripted(answers, Access::default(), false).await
}

/// A store of a bucket that is spoken to like this, and the whole heads of the requests, in lower case.
pub(crate) async fn headed_endpoint(
    answers: Vec<Answer>,
    access: Access,
) -> (S3Store, mpsc::UnboundedReceiver<String>) {
    let (store, told, _) = scripted(answers, access, true).await;
    (store, told)
}

async fn scripted(
    answers: Vec<Answer>,
    access: Access,
    heads: bool,
) -> (S3Store, mpsc::UnboundedReceiver<String>, Arc<RequestCounts>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = mpsc::unbounded_channel();
    let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, Arc::clone(&answers), tell.clone(), heads));
        }
    });
    let bucket = MountBucket {
        bucket: "b".to_owned(),
        endpoint,
        region: String::new(),
        force_path_style: true,
        access,
    };
    let clients = S3Clients::load(Duration::from_secs(2)).await;
    let mut store = clients.store(&bucket, "p/");
    let keys = aws_credential_types::Credentials::new("a", "b", None, None, "test");
    let config = store.client.config().to_builder().credentials_provider(keys).build();
    store.client = aws_sdk_s3::Client::from_conf(config);
    (store, told, clients.counts())
}

async fn answer(
    mut stream: TcpStream,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    tell: mpsc::UnboundedSender<String>,
    heads: bool,
) -> Option<()> {
    let mut request = Vec::new();
    let head = loop {
        if let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
    if text.contains("expect: 100-continue") {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
    while request.len() < head + length {
        if stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
    }
    let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
    let next = answers.lock().unwrap().pop_front();
    tell.send(if heads { text } else { line }).ok()?;
    if let Some(Answer::Late(after, _)) = &next {
        tokio::time::sleep(*after).await;
    }
    if let Some(Answer::Says(text) | Answer::Late(_, text)) = next {
        stream.write_all(text.as_bytes()).await.ok()?;
        stream.shutdown().await.ok()?;
    }
    Some(())
}

fn corrupt() -> UnderStoreError {
    UnderStoreError::Corrupt { key: "k".to_owned() }
}

#[tokio::test]
async fn an_answer_that_is_not_what_was_asked_for_is_refused() {
    let whole = says("200 OK", "ETag: \"e\"\r\n", "0123456789");
    let cut = part("0-9/10", "e", "0123");
    let Answer::Says(cut) = cut else { unreachable!() };
    let cut = Answer::Says(cut.replace("Content-Length: 4", "Content-Length: 10"));
    let cases = [
        (part("0-9/10", "e", "0123456789"), None),
        (whole, Some(corrupt())),
        (part("5-14/20", "e", "0123456789"), Some(corrupt())),
        (part("0-4/20", "e", "01234"), Some(corrupt())),
        (part("0-9/10", "e", "012345678901234"), Some(corrupt())),
        (cut, Some(UnderStoreError::Unreachable)),
        (
            part("0-9/10", "other", "0123456789"),
            Some(UnderStoreError::PreconditionFailed { key: "k".to_owned() }),
        ),
    ];
    for (answer, expected) in cases {
        let (store, _requests) = endpoint(vec![answer.clone()]).await;
        let outcome = store.get_range("k", 0..10, Some("e")).await;
        match expected {
            Some(expected) => assert_eq!(outcome.unwrap_err(), expected, "{answer:?}"),
            None => assert_eq!(outcome.unwrap().bytes, "0123456789"),
        }
    }
}

#[tokio::test]
async fn every_attempt_counts_and_the_bytes_of_what_was_answered() {
    let busy = || error("503 Service Unavailable", "SlowDown");
    let answers = vec![busy(), part("0-1/2", "e", "ok"), says("200 OK", "", "")];
    let (store, _told, counts) = counted_endpoint(answers).await;
    assert_eq!(store.get_range("k", 0..2, None).await.unwrap().bytes, "ok");
    store.delete("k", None).await.unwrap();
    let now = counts.now();
    assert_eq!((now.gets, now.deletes, now.bytes_down), (2, 1, 2), "{now:?}");
    assert_eq!((now.puts, now.parts, now.heads, now.lists, now.bytes_up), (0, 0, 0, 0, 0), "{now:?}");
}

#[tokio::test]
async fn a_busy_endpoint_is_asked_again_and_not_for_ever() {
    let busy = || error("503 Service Unavailable", "SlowDown");
    let (store, mut requests) = endpoint(vec![busy(), part("0-1/2", "e", "ok")]).await;
    assert_eq!(store.get_range("k", 0..2, None).await.unwrap().bytes, "ok");
    requests.close();
    assert_eq!(requests.recv().await.as_deref(), Some("GET /b/p/k?x-id=GetObject HTTP/1.1"));
    let (store, mut requests) = endpoint(vec![busy(), busy(), busy(), busy()]).await;
    let refused = store.get_range("k", 0..2, None).await.unwrap_err();
    assert_eq!(refused, UnderStoreError::Throttled { code: "SlowDown".to_owned() });
    requests.close();
    let mut asked = 0;
    while requests.recv().await.is_some() {
        asked += 1;
    }
    assert_eq!(asked, 3);
}

#[tokio::test]
async fn a_put_whose_answer_is_lost_finds_the_object() {
    let (store, _requests) = endpoint(vec![Answer::Nothing, error("412 Precondition Failed", "")]).await;
    let outcome = store.put_new("k", object(&random_bytes(1_000))).await;
    assert_eq!(outcome.unwrap(), PutOutcome::Exists);
}

#[tokio::test]
async fn a_slow_line_has_time_for_its_bytes() {
    let Answer::Says(created) = says("200 OK", "ETag: \"e\"\r\n", "") else { unreachable!() };
    // Past the timeout of a request (2 s), within what a mebibyte may take.
    let late = Answer::Late(Duration::from_millis(2_500), created);
    let (store, mut requests) = endpoint(vec![late]).await;
    let outcome = store.put_new("k", object(&random_bytes(1 << 20))).await;
    assert_eq!(outcome.unwrap(), PutOutcome::Created { etag: "e".to_owned() });
    requests.close();
    assert!(requests.recv().await.is_some() && requests.recv().await.is_none(), "sent once");
}

pub(crate) fn begun() -> Answer {
    let body = "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>p/k</Key><UploadId>u1</UploadId>\
                </InitiateMultipartUploadResult>";
    says("200 OK", "Content-Type: application/xml\r\n", body)
}

fn took() -> Answer {
    says("200 OK", "ETag: \"part\"\r\n", "")
}

#[tokio::test]
async fn a_completion_whose_answer_is_lost_finds_the_object() {
    let head = says("200 OK", "Content-Length: 7\r\nETag: \"e\"\r\n", "");
    let gone = || says("204 No Content", "", "");
    let lost = vec![
        begun(),
        took(),
        took(),
        took(),
        Answer::Nothing,
        error("404 Not Found", "NoSuchUpload"),
        head,
        gone(),
    ];
    let (store, _requests) = endpoint(lost).await;
    let outcome = store.put_new("k", object(&random_bytes(17 << 20))).await;
    assert_eq!(outcome.unwrap(), PutOutcome::Exists);
    // An error within a 200, as S3 may answer a completion.
    let failed = vec![begun(), took(), took(), took(), error("200 OK", "InternalError")];
    let failed = [failed, vec![error("200 OK", "InternalError"); 2], vec![gone()]].concat();
    let (store, mut requests) = endpoint(failed).await;
    let outcome = store.put_new("k", object(&random_bytes(17 << 20))).await.unwrap_err();
    assert!(outcome.retryable(), "{outcome:?}");
    requests.close();
    let mut last = String::new();
    while let Some(line) = requests.recv().await {
        last = line;
    }
    assert!(last.starts_with("DELETE /b/p/k") && last.contains("uploadId=u1"), "{last}");
}

#[tokio::test]
async fn an_upload_that_is_dropped_is_aborted() {
    let (store, mut requests) = endpoint(vec![begun(), says("204 No Content", "", "")]).await;
    let (ask, asked) = tokio::sync::oneshot::channel();
    let first = async move {
        ask.send(()).unwrap();
        Ok(Bytes::from_static(b"x"))
    };
    // It waits for more bytes than ever come.
    let body = futures::stream::once(first).chain(futures::stream::pending()).boxed();
    let endless = NewObject { body, length: 17 << 20, ..object(&Bytes::new()) };
    let upload = tokio::spawn(async move { store.put_new("k", endless).await });
    assert!(requests.recv().await.unwrap().starts_with("POST /b/p/k?uploads"));
    asked.await.unwrap();
    upload.abort();
    let line = tokio::time::timeout(Duration::from_secs(10), requests.recv()).await.unwrap().unwrap();
    assert!(line.starts_with("DELETE /b/p/k") && line.contains("uploadId=u1"), "{line}");
}

#[tokio::test]
async fn a_listing_that_is_cut_is_not_taken_for_the_end() {
    let page = |rest: &str| {
        let body = format!(
            "<ListBucketResult><EncodingType>url</EncodingType>\
             <Contents><Key>p/a%2Bb+c</Key><Size>3</Size><ETag>\"e\"</ETag></Contents>{rest}\
             </ListBucketResult>"
        );
        says("200 OK", "Content-Type: application/xml\r\n", &body)
    };
    let list = ListRequest::default();
    let (store, _requests) = endpoint(vec![page("<IsTruncated>false</IsTruncated>")]).await;
    let listed = store.list(&list).await.unwrap();
    assert_eq!((listed.objects[0].key.as_str(), listed.objects[0].size), ("a+b c", 3));
    assert_eq!(listed.continuation, None);
    let more = page("<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>");
    let (store, _requests) = endpoint(vec![more]).await;
    assert_eq!(store.list(&list).await.unwrap().continuation.as_deref(), Some("t"));
    let (store, _requests) = endpoint(vec![page("<IsTruncated>true</IsTruncated>")]).await;
    assert!(matches!(store.list(&list).await, Err(UnderStoreError::Corrupt { .. })));
    let short = page("<IsTruncated>false</IsTruncated><KeyCount>2</KeyCount>");
    let (store, _requests) = endpoint(vec![short]).await;
    assert!(matches!(store.list(&list).await, Err(UnderStoreError::Corrupt { .. })));
    let garbage = says("200 OK", "Content-Type: application/xml\r\n", "<ListBucketResult><Cont");
    let (store, _requests) = endpoint(vec![garbage]).await;
    let error = store.list(&list).await.unwrap_err();
    assert!(error.retryable(), "{error:?}");
}

#[tokio::test]
async fn refusals_keep_their_names() {
    let skewed = error("403 Forbidden", "RequestTimeTooSkewed");
    let (store, _requests) = endpoint(vec![skewed]).await;
    let denied = store.get_range("k", 0..1, None).await.unwrap_err();
    assert_eq!(denied, UnderStoreError::Denied { code: "RequestTimeTooSkewed".to_owned() });
    let (store, _requests) = endpoint(vec![says("403 Forbidden", "", "")]).await;
    let denied = store.head("k").await.unwrap_err();
    assert_eq!(denied, UnderStoreError::Denied { code: "status 403".to_owned() });
}

#[tokio::test]
async fn an_endpoint_is_believed_only_the_checksums_it_checks() {
    let gone = || says("204 No Content", "", "");
    let refused = || error("400 Bad Request", "BadDigest");
    let told = super::s3::checksum_text(crc32c::crc32c(b"announced"));
    let confirmed = || {
        says("200 OK", &format!("Content-Length: 20\r\nETag: \"e\"\r\nx-amz-checksum-crc32c: {told}\r\n"), "")
    };
    let body = "<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>";
    let completed = || says("200 OK", "Content-Type: application/xml\r\n", body);
    let cases = [
        (vec![refused(), begun(), refused(), gone(), gone(), gone()], true),
        (vec![refused(), begun(), took(), refused(), gone(), gone(), gone()], true),
        // Taken, but not confirmed.
        (
            vec![
                took(),
                says("200 OK", "Content-Length: 20\r\nETag: \"e\"\r\n", ""),
                begun(),
                refused(),
                gone(),
                gone(),
                gone(),
            ],
            true,
        ),
        (vec![took(), confirmed(), gone(), gone()], false),
        (vec![refused(), begun(), took(), completed(), confirmed(), gone(), gone()], false),
    ];
    for (n, (answers, expected)) in cases.into_iter().enumerate() {
        let (store, mut requests) = endpoint(answers).await;
        assert_eq!(s3_probe::checks_checksums(&store, "x/").await.unwrap(), expected, "case {n}");
        requests.close();
        let mut last = String::new();
        while let Some(line) = requests.recv().await {
            last = line;
        }
        assert!(last.starts_with("DELETE /b/p/x/wrong-parts"), "case {n}: {last}");
    }
}

#[tokio::test]
async fn only_old_uploads_of_our_own_are_aborted() {
    let upload = |key: &str, id: &str, begun: &str| {
        format!("<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{begun}</Initiated></Upload>")
    };
    let listed = [
        upload("p/c/packs/1", "old", "2020-01-01T00:00:00.000Z"),
        upload("p/c/packs/2", "new", "2021-01-01T00:00:00.000Z"),
        upload("p/other", "theirs", "2020-01-01T00:00:00.000Z"),
        "<Upload><Key>p/c/packs/3</Key><UploadId>undated</UploadId></Upload>".to_owned(),
    ]
    .concat();
    let body = format!(
        "<ListMultipartUploadsResult><Bucket>b</Bucket><IsTruncated>false</IsTruncated>{listed}\
         </ListMultipartUploadsResult>"
    );
    let answers = vec![says("200 OK", "Content-Type: application/xml\r\n", &body), says("200 OK", "", "")];
    let (store, mut requests) = endpoint(answers).await;
    // September 2020.
    let before = Timestamp(1_600_000_000_000_000_000);
    assert_eq!(store.abort_abandoned("c/", before).await, Ok(1));
    requests.close();
    assert!(requests.recv().await.unwrap().starts_with("GET /b"));
    let aborted = requests.recv().await.unwrap();
    assert!(aborted.starts_with("DELETE /b/p/c/packs/1") && aborted.contains("uploadId=old"), "{aborted}");
    assert_eq!(requests.recv().await, None);
}
