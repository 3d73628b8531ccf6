//! What a node tells of its disk and of its under-store.

use cairn_proto::v1;

use super::cluster::{TestCluster, kind};
use super::meta::stamped;

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
        let request = stamped(v1::SurveyReplicasRequest { after, limit: 2 });
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
