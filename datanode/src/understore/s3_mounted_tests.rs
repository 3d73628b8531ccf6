//! What is said to S3 about objects of mounts, and answers that fail.

use bytes::Bytes;

use super::s3_fault_tests::{Answer, begun, endpoint, error, headed_endpoint, says};
use super::*;

fn written() -> Answer {
    says("200 OK", "ETag: \"new\"\r\n", "")
}

fn copied(element: &str) -> Answer {
    let body = format!("<{element}><ETag>\"new\"</ETag></{element}>");
    says("200 OK", "Content-Type: application/xml\r\n", &body)
}

fn source() -> SourceVersion {
    SourceVersion { key: "s ä".to_owned(), etag: "old".to_owned(), size: 6 << 20 }
}

#[tokio::test]
async fn each_request_says_what_must_be_there_who_pays_and_how_it_is_kept() {
    let access = Access {
        requester_pays: true,
        sse: "aws:kms".to_owned(),
        sse_kms_key: "key-1".to_owned(),
        storage_class: "STANDARD_IA".to_owned(),
        ..Access::default()
    };
    let kept =
        ["x-amz-server-side-encryption: aws:kms", "aws-kms-key-id: key-1", "storage-class: standard_ia"];
    let answers = vec![
        written(),
        written(),
        copied("CopyObjectResult"),
        begun(),
        copied("CopyPartResult"),
        copied("CompleteMultipartUploadResult"),
        says("204 No Content", "", ""),
    ];
    let (store, mut heads) = headed_endpoint(answers, access).await;
    let properties = Properties {
        metadata: [("mtime".to_owned(), "1".to_owned())].into(),
        content_type: Some("text/plain".to_owned()),
        tags: Some("a=b".to_owned()),
        ..Properties::default()
    };
    let version = Condition::Version("old".to_owned());
    let mut check = async |wanted: &[&str]| {
        let head = heads.recv().await.unwrap();
        for wanted in wanted.iter().chain(&["x-amz-request-payer: requester"]) {
            assert!(head.contains(wanted), "{wanted} in {head}");
        }
        head
    };
    let carried = ["x-amz-meta-mtime: 1", "content-type: text/plain", "x-amz-tagging: a=b"];
    store.put("k", &version, &properties, Bytes::from_static(b"x")).await.unwrap();
    let head = check(&[&["put /b/p/k", "if-match: \"old\""], &carried[..], &kept[..]].concat()).await;
    assert!(!head.contains("if-none-match"), "{head}");
    store.put("k", &Condition::Absent, &properties, Bytes::new()).await.unwrap();
    check(&["if-none-match: *"]).await;
    store.copy("k", &version, &properties, &source()).await.unwrap();
    let wanted = [
        "x-amz-copy-source: b/p/s%20%c3%a4",
        "x-amz-copy-source-if-match: \"old\"",
        "if-match: \"old\"",
        "x-amz-metadata-directive: replace",
        "x-amz-tagging-directive: replace",
    ];
    check(&[&wanted[..], &carried[..], &kept[..]].concat()).await;
    let mut upload = store.begin("k", &properties).await.unwrap();
    check(&[&["post /b/p/k?uploads"], &carried[..], &kept[..]].concat()).await;
    let part = upload.copy(1, &source(), 0..5 << 20).await.unwrap();
    check(&["x-amz-copy-source-if-match: \"old\"", "x-amz-copy-source-range: bytes=0-5242879"]).await;
    let done = upload.complete(&version, &[part], 5 << 20, None).await.unwrap();
    check(&["post /b/p/k?", "if-match: \"old\""]).await;
    assert_eq!(done, Written { etag: "new".to_owned(), version_id: None });
    store.delete("k", Some("new")).await.unwrap();
    check(&["delete /b/p/k", "if-match: \"new\""]).await;
}

#[tokio::test]
async fn an_object_keeps_its_storage_class_unless_the_mount_has_one_or_it_is_an_archive() {
    let seen = |class: &str| {
        let headers = format!("Content-Length: 3\r\nETag: \"e\"\r\nx-amz-storage-class: {class}\r\n");
        says("200 OK", &headers, "")
    };
    for (had, mounts, wanted) in [
        ("STANDARD_IA", "", Some("standard_ia")),
        ("STANDARD_IA", "ONEZONE_IA", Some("onezone_ia")),
        ("GLACIER", "", None),
        ("DEEP_ARCHIVE", "STANDARD", Some("standard")),
    ] {
        let access = Access { storage_class: mounts.to_owned(), ..Access::default() };
        let (store, mut heads) = headed_endpoint(vec![seen(had), written()], access).await;
        let properties = store.inspect("k").await.unwrap().properties;
        store.put("k", &Condition::Absent, &properties, Bytes::new()).await.unwrap();
        heads.recv().await.unwrap();
        let head = heads.recv().await.unwrap();
        let class = head.lines().find_map(|line| line.strip_prefix("x-amz-storage-class: "));
        assert_eq!(class, wanted, "{had} {mounts}");
    }
}

#[tokio::test]
async fn a_copy_that_fails_after_it_began_is_no_copy() {
    let failed = || error("200 OK", "InternalError");
    let (store, _requests) = endpoint(vec![failed(), failed(), failed()]).await;
    let outcome = store.copy("k", &Condition::Absent, &Properties::default(), &source()).await;
    assert!(outcome.as_ref().is_err_and(UnderStoreError::retryable), "{outcome:?}");
    let (store, _requests) = endpoint(vec![begun(), failed(), failed(), failed()]).await;
    let upload = store.begin("k", &Properties::default()).await.unwrap();
    let outcome = upload.copy(1, &source(), 0..5 << 20).await;
    assert!(outcome.as_ref().is_err_and(UnderStoreError::retryable), "{outcome:?}");
}

#[tokio::test]
async fn an_upload_that_is_dropped_or_aborted_is_aborted_once() {
    let gone = || says("204 No Content", "", "");
    for dropped in [true, false] {
        let (store, mut requests) = endpoint(vec![begun(), gone()]).await;
        let mut upload = store.begin("k", &Properties::default()).await.unwrap();
        if !dropped {
            upload.abort().await;
        }
        drop(upload);
        assert!(requests.recv().await.unwrap().starts_with("POST /b/p/k?uploads"));
        assert!(requests.recv().await.unwrap().starts_with("DELETE /b/p/k"));
        requests.close();
        assert_eq!(requests.recv().await, None);
    }
}

#[tokio::test]
async fn an_endpoint_without_tags_has_none() {
    let (store, _requests) = endpoint(vec![error("501 Not Implemented", "NotImplemented")]).await;
    assert_eq!(store.tags("k").await.as_deref(), Ok(""));
    let (store, _requests) = endpoint(vec![error("403 Forbidden", "AccessDenied")]).await;
    assert!(matches!(store.tags("k").await, Err(UnderStoreError::Denied { .. })));
}
