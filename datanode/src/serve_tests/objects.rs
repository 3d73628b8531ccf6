//! Objects of mounted buckets, written, tried and deleted by a node that is given the work.

use bytes::Bytes;
use cairn_proto::v1;
use cairn_proto::v1::object_piece::Source;
use cairn_proto::v1::report_work_request::Outcome;
use cairn_proto::v1::work::Work;
use cairn_types::random::{Random, SystemRandom};

use super::cluster::TestCluster;
use super::meta::CLUSTER;
use crate::understore::test_endpoint::bucket_for_tests;

/// A bucket that only the credentials in a file let in.
async fn mounted(home: &std::path::Path) -> v1::MountedBucket {
    let (bucket, credentials) = bucket_for_tests().await;
    let file = home.join("credentials");
    std::fs::write(&file, credentials).unwrap();
    let access = v1::BucketAccess {
        credentials_file: file.to_str().unwrap().to_owned(),
        ..v1::BucketAccess::default()
    };
    v1::MountedBucket {
        mount: 3,
        bucket: bucket.bucket,
        endpoint: bucket.endpoint,
        region: bucket.region,
        force_path_style: true,
        access: Some(access),
        ..v1::MountedBucket::default()
    }
}

/// Gives the first node a piece of work, and answers what it reports.
async fn outcome(cluster: &TestCluster, intent: u64, work: Work) -> Outcome {
    cluster.meta.give(cluster.nodes[0].id, work).await;
    cluster
        .meta
        .wait(|state| {
            let report = state.reports.iter().find(|report| report.intent == intent)?;
            report.outcome.clone()
        })
        .await
}

/// A sealed chunk of these bytes, on the first node.
async fn sealed(cluster: &TestCluster, bytes: &[u8]) -> v1::ChunkRange {
    let chunk = cluster.open_chunk(1);
    cluster.writer(chunk).await.append(1, bytes).await.unwrap();
    let sealed = cluster.meta.seal(chunk).await.unwrap();
    v1::ChunkRange {
        chunk,
        sealed_length: sealed.length,
        replicas: sealed.replicas,
        ..v1::ChunkRange::default()
    }
}

fn piece(source: Source, offset: u64, length: u64) -> v1::ObjectPiece {
    v1::ObjectPiece { offset, length, source: Some(source) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_becomes_an_object_is_renamed_and_goes() {
    let (cluster, home) = (TestCluster::start(1).await, tempfile::tempdir().unwrap());
    let mut bucket = mounted(home.path()).await;
    let prefix = format!("serve-{:016x}/", SystemRandom.next_u64());
    let probe =
        v1::ProbeMount { intent: 1, bucket: Some(bucket.clone()), prefix: prefix.clone(), write: true };
    let Outcome::MountProbed(probed) = outcome(&cluster, 1, Work::ProbeMount(probe)).await else { panic!() };
    let abilities = probed.abilities.unwrap();
    assert!(abilities.writable && abilities.put_if_match && abilities.complete_if_match, "{abilities:?}");
    bucket.abilities = Some(abilities);
    let key = |name: &str| Bytes::from(format!("{prefix}{name}"));
    let range = sealed(&cluster, b"some bytes of a chunk").await;
    let put = v1::PutObject {
        intent: 2,
        bucket: Some(bucket.clone()),
        key: key("a"),
        length: 12,
        pieces: vec![piece(Source::Chunk(range), 5, 5), piece(Source::Hole(true), 0, 7)],
        ..v1::PutObject::default()
    };
    let Outcome::ObjectWritten(made) = outcome(&cluster, 2, Work::PutObject(put.clone())).await else {
        panic!()
    };
    assert_eq!((made.size, made.uploaded_bytes, made.copied_bytes), (12, 12, 0));
    assert!(made.mtime_ns > 0 && !made.etag.is_empty());
    // Another intent for the same key meets it; the same one finds it again.
    let other = v1::PutObject { intent: 3, ..put.clone() };
    let Outcome::ObjectConflict(met) = outcome(&cluster, 3, Work::PutObject(other)).await else { panic!() };
    assert_eq!((met.present, &met.etag, met.size, &met.key), (true, &made.etag, 12, &put.key));
    cluster.meta.change(|state| state.reports.clear());
    let again = outcome(&cluster, 2, Work::PutObject(put)).await;
    assert_eq!(again, Outcome::ObjectWritten(made.clone()));
    // The file is renamed: its object is copied, then the old one goes.
    let source = v1::SourceObject { key: key("a"), etag: made.etag.clone(), size: 12 };
    let renamed = v1::PutObject {
        intent: 4,
        bucket: Some(bucket.clone()),
        key: key("b"),
        length: 12,
        pieces: vec![piece(Source::Object(source), 0, 12)],
        like_key: key("a"),
        like_etag: made.etag.clone(),
        ..v1::PutObject::default()
    };
    let Outcome::ObjectWritten(copy) = outcome(&cluster, 4, Work::PutObject(renamed)).await else { panic!() };
    assert_eq!((copy.size, copy.uploaded_bytes, copy.copied_bytes), (12, 0, 12));
    for (intent, etag) in [(5, "0123"), (6, &made.etag), (7, &made.etag)] {
        let delete =
            v1::DeleteObject { intent, bucket: Some(bucket.clone()), key: key("a"), etag: etag.to_owned() };
        let outcome = outcome(&cluster, intent, Work::DeleteObject(delete)).await;
        match (intent, outcome) {
            (5, Outcome::ObjectConflict(met)) => assert_eq!(met.etag, made.etag),
            (6 | 7, Outcome::ObjectGone(_)) => {}
            wrong => panic!("{wrong:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_told_for_good_or_for_now() {
    let (cluster, home) = (TestCluster::start(1).await, tempfile::tempdir().unwrap());
    let bucket = mounted(home.path()).await;
    let put = v1::PutObject { intent: 1, bucket: Some(bucket.clone()), ..v1::PutObject::default() };
    let Outcome::ObjectFailed(failed) = outcome(&cluster, 1, Work::PutObject(put)).await else { panic!() };
    assert!(failed.permanent && failed.message.contains("field key"), "{failed:?}");
    // An endpoint that was found to be without conditions.
    let abilities = Some(v1::EndpointAbilities::default());
    let unfit = v1::MountedBucket { abilities, ..bucket.clone() };
    let put = v1::PutObject {
        intent: 2,
        bucket: Some(unfit),
        key: Bytes::from_static(b"unfit"),
        ..v1::PutObject::default()
    };
    let Outcome::ObjectFailed(failed) = outcome(&cluster, 2, Work::PutObject(put)).await else { panic!() };
    assert!(failed.permanent && failed.message.contains("--sole-writer"), "{failed:?}");
    // A chunk that nobody has, and a bucket that does not let us in: that may change.
    let range = v1::ChunkRange { chunk: 4_711, sealed_length: 9, ..v1::ChunkRange::default() };
    let put = v1::PutObject {
        intent: 3,
        bucket: Some(bucket.clone()),
        key: Bytes::from(format!("missing-{CLUSTER}")),
        length: 9,
        pieces: vec![piece(Source::Chunk(range), 0, 9)],
        ..v1::PutObject::default()
    };
    let Outcome::Failure(message) = outcome(&cluster, 3, Work::PutObject(put)).await else { panic!() };
    assert!(message.contains("4711"), "{message}");
    std::fs::write(
        home.path().join("other"),
        "[default]\naws_access_key_id = x\naws_secret_access_key = y\n",
    )
    .unwrap();
    let file = home.path().join("other").to_str().unwrap().to_owned();
    let access = Some(v1::BucketAccess { credentials_file: file, ..v1::BucketAccess::default() });
    let denied = v1::MountedBucket { access, ..bucket };
    let probe = v1::ProbeMount { intent: 4, bucket: Some(denied), prefix: String::new(), write: false };
    let Outcome::Failure(message) = outcome(&cluster, 4, Work::ProbeMount(probe)).await else { panic!() };
    assert!(message.contains("credentials"), "{message}");
}
