//! What a node tells of its disk and of its under-store.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cairn_proto::v1;
use cairn_types::{InodeId, SystemClock, SystemRandom};

use super::cluster::{TestCluster, TestNode, kind};
use super::meta::{CLUSTER, FakeMeta, stamped};
use crate::config::UnderStoreConfig;
use crate::understore::DirectoryStore;
use crate::upload::Uploader;
use crate::upload::uploader_tests::Chunks;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_tells_page_by_page_what_is_on_its_disk() {
    let cluster = TestCluster::start(1).await;
    let mut chunks = Vec::new();
    for n in 1..=3usize {
        let chunk = cluster.open_chunk(1);
        cluster.writer(chunk).await.append(1, &vec![7; 100 * n]).await.unwrap();
        chunks.push((chunk, 100 * n as u64));
    }
    let mut node = cluster.nodes[0].client().await;
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let request = stamped(v1::SurveyReplicasRequest { after, limit: 2, node: 0 });
        let page = node.survey_replicas(request).await.unwrap().into_inner();
        assert!(page.replicas.len() <= 2 && page.more == found.is_empty(), "{page:?}");
        found.extend(page.replicas.iter().map(|replica| (replica.chunk, replica.bytes)));
        after = found.last().unwrap().0;
        if !page.more {
            break;
        }
    }
    assert_eq!(found, chunks);
    let packs = node.survey_packs(stamped(v1::SurveyPacksRequest::default())).await.unwrap_err();
    assert_eq!(kind(packs), "NotSupported", "it has no under-store");
}

async fn read(node: &TestNode, chunk: u64, place: &v1::PackPlace) -> Result<Bytes, tonic::Status> {
    let (place, sealed_length) = (Some(place.clone()), place.length);
    let range = v1::ChunkRange { chunk, place, sealed_length, ..v1::ChunkRange::default() };
    let source = Some(v1::read_request::Source::Chunk(range));
    let request = v1::ReadRequest { source, offset: 10, length: 500, ..v1::ReadRequest::default() };
    let mut frames = node.client().await.read(stamped(request)).await?.into_inner();
    let mut bytes = BytesMut::new();
    while let Some(frame) = frames.message().await? {
        bytes.extend_from_slice(&frame.data);
    }
    Ok(bytes.freeze())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_has_moved_is_read_where_it_is_now() {
    let (meta, home) = (FakeMeta::start().await, tempfile::tempdir().unwrap());
    let packs = home.path().join("packs");
    let store = Arc::new(DirectoryStore::open(&packs, &SystemClock, &SystemRandom).await.unwrap());
    let chunks = Arc::new(Chunks::of(&[5_000, 700], InodeId(9)));
    let key = format!("{CLUSTER}/packs/{:016x}", 6);
    let uploader = Uploader::new(store, Arc::clone(&chunks) as _, CLUSTER);
    let written = uploader.upload(&chunks.work(&key)).await.unwrap();
    let understore = UnderStoreConfig { url: format!("file://{}", packs.display()), ..Default::default() };
    let node = TestNode::start_over(&meta, home.path().join("node"), Some(understore)).await;
    let chunk = meta.open_chunk(&[node.id], 64 << 20, &[]);
    assert_eq!(chunk, written.chunks[0].chunk);
    let now = v1::PackPlace { pack: 6, key: key.clone(), offset: written.chunks[0].offset, length: 5_000 };
    // What a reader was told before a compaction: that pack is gone.
    let told = v1::PackPlace { pack: 2, key: "gone".to_owned(), ..now.clone() };
    let lost = read(&node, chunk, &told).await.unwrap_err();
    assert_eq!(kind(lost), "NoSuchChunk", "the metadata know of no other place");
    meta.state().chunks.get_mut(&chunk).unwrap().place = Some(now.clone());
    let wanted = chunks.bytes(chunk).slice(10..510);
    assert!(read(&node, chunk, &told).await.unwrap() == wanted);
    assert!(read(&node, chunk, &now).await.unwrap() == wanted);
    // And it tells what is in its under-store, in pages, what is not a pack too.
    std::fs::write(packs.join(&key).with_file_name("other"), b"1234").unwrap();
    let survey = async |start_after: &str| {
        let request = v1::SurveyPacksRequest { start_after: start_after.to_owned(), only_look: true };
        node.client().await.survey_packs(stamped(request)).await.unwrap().into_inner()
    };
    let page = survey("").await;
    let found: Vec<_> = page.objects.iter().map(|o| (o.key.as_str(), o.bytes)).collect();
    let other = format!("{CLUSTER}/packs/other");
    assert_eq!(found, [(key.as_str(), written.bytes), (other.as_str(), 4)]);
    assert!(!page.more && page.abandoned_uploads == 0);
    assert_eq!(survey(&key).await.objects.len(), 1, "behind the first");
    node.stop().await;
}
