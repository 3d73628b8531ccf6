//! Appends that go well, and those that are refused.

use std::time::Duration;

use cairn_proto::frames::Transport;
use cairn_proto::v1::append_reply::Outcome;
use cairn_proto::{ServiceError, WireError, status, v1};
use cairn_types::limits::LAG_PAUSE_MS_MAX;
use cairn_types::{Clock, NodeId, SystemClock};
use tonic::{Code, Request};

use super::cluster::{TestCluster, Writer, kind, read, tail_length};

over_each_transport!(
    an_append_is_acknowledged_and_read_back_on_one_node,
    an_acknowledged_append_is_on_all_three_with_one_chain,
    many_appends_in_flight_are_answered_in_order,
    a_repeated_append_gets_the_first_offset_and_is_stored_once,
    a_repeated_append_at_an_offset_is_no_mismatch,
    what_must_not_be_appended_is_refused_and_changes_nothing,
    a_writer_of_an_older_generation_is_fenced_with_its_last_sequence,
    a_grant_is_renewed_before_and_when_it_is_used_up,
);

async fn an_append_is_acknowledged_and_read_back_on_one_node(transport: Transport) {
    let cluster = TestCluster::start_over(transport, 1).await;
    let chunk = cluster.open_chunk(1);
    assert_eq!(tail_length(&cluster.nodes[0], chunk).await.unwrap(), 0);
    let mut writer = cluster.writer(chunk).await;
    assert_eq!(writer.append(1, b"hello").await, Ok(0));
    assert_eq!(writer.append(2, b" world").await, Ok(5));
    assert_eq!(tail_length(&cluster.nodes[0], chunk).await.unwrap(), 11);
    assert_eq!(read(&cluster.nodes[0], chunk, 2, 9, 0).await.unwrap(), b"llo world");
    let beyond = read(&cluster.nodes[0], chunk, 2, 10, 0).await.unwrap_err();
    assert_eq!(beyond.code(), Code::NotFound);
}

async fn an_acknowledged_append_is_on_all_three_with_one_chain(transport: Transport) {
    let cluster = TestCluster::start_over(transport, 3).await;
    let chunk = cluster.open_chunk(3);
    let mut writer = cluster.writer(chunk).await;
    for n in 0..20u64 {
        assert_eq!(writer.append(n + 1, &[n as u8; 100]).await, Ok(n * 100));
    }
    let mut answers = Vec::new();
    for replica in cluster.meta.chunk(chunk).replicas {
        let answer = cluster.meta.fence(&replica, chunk, 2).await.unwrap();
        assert_eq!((answer.length, answer.health), (2000, 0));
        assert_eq!(answer.marks, [v1::WriterMark { writer: 77, sequence: 20, offset: 1000 + 1900 }]);
        answers.push(answer.chain);
    }
    assert!(answers.iter().all(|chain| *chain == answers[0] && *chain != 0));
}

async fn many_appends_in_flight_are_answered_in_order(transport: Transport) {
    const COUNT: u64 = 2000;
    let cluster = TestCluster::start_over(transport, 3).await;
    let chunk = cluster.open_chunk(3);
    let mut writer = cluster.writer(chunk).await;
    let requests: Vec<_> = (0..COUNT).map(|n| writer.request(n + 1, &n.to_le_bytes())).collect();
    let sender = async {
        for request in requests {
            writer.send(request).await;
        }
    };
    sender.await;
    for n in 0..COUNT {
        let reply = writer.reply().await;
        assert_eq!(reply.sequence, n + 1);
        assert_eq!(reply.outcome, Some(Outcome::Offset(n * 8)));
        assert!(reply.committed >= n * 8 + 8);
    }
    let bytes = read(&cluster.nodes[0], chunk, 0, COUNT * 8, 0).await.unwrap();
    let expected: Vec<u8> = (0..COUNT).flat_map(u64::to_le_bytes).collect();
    assert_eq!(bytes, expected);
    // A reader brings what it knows: a secondary serves up to there.
    let at_secondary = read(&cluster.nodes[2], chunk, 0, COUNT * 8, COUNT * 8).await.unwrap();
    assert_eq!(at_secondary, expected);
}

async fn a_repeated_append_gets_the_first_offset_and_is_stored_once(transport: Transport) {
    let cluster = TestCluster::start_over(transport, 3).await;
    let chunk = cluster.open_chunk(3);
    let mut writer = cluster.writer(chunk).await;
    assert_eq!(writer.append(1, b"first").await, Ok(0));
    assert_eq!(writer.append(2, b"second").await, Ok(5));
    assert_eq!(writer.append(1, b"first").await, Ok(0));
    let mut again = cluster.writer(chunk).await;
    assert_eq!(again.append(2, b"second").await, Ok(5));
    assert_eq!(again.append(3, b"third").await, Ok(11));
    assert_eq!(tail_length(&cluster.nodes[0], chunk).await.unwrap(), 16);
}

async fn a_repeated_append_at_an_offset_is_no_mismatch(transport: Transport) {
    let cluster = TestCluster::start_over(transport, 3).await;
    let chunk = cluster.open_chunk(3);
    let mut writer = cluster.writer(chunk).await;
    let at = |sequence, offset, data: &[u8], writer: &Writer| v1::AppendRequest {
        expected_offset: Some(offset),
        ..writer.request(sequence, data)
    };
    let first = at(1, 0, b"first", &writer);
    writer.send(first.clone()).await;
    assert_eq!(writer.reply().await.outcome, Some(Outcome::Offset(0)));
    assert_eq!(writer.append(2, b"second").await, Ok(5));
    // Its acknowledgement was lost; the file has grown since, by itself and by others.
    writer.send(first).await;
    assert_eq!(writer.reply().await.outcome, Some(Outcome::Offset(0)));
    // Refused, it has used no sequence up: the next one is as good.
    for wrong in [0, 10, 12, u64::MAX] {
        writer.send(at(3, wrong, b"third", &writer)).await;
        let Some(Outcome::Error(detail)) = writer.reply().await.outcome else { panic!("it was taken") };
        assert_eq!((detail.kind.as_str(), detail.numbers), ("LengthMismatch", vec![wrong, 11]));
    }
    writer.send(at(3, 11, b"third", &writer)).await;
    assert_eq!(writer.reply().await.outcome, Some(Outcome::Offset(11)));
}

async fn what_must_not_be_appended_is_refused_and_changes_nothing(transport: Transport) {
    let cluster = TestCluster::start_over(transport, 1).await;
    let chunk = cluster.open_chunk(1);
    let mut writer = cluster.writer(chunk).await;
    assert_eq!(writer.append(1, b"x").await, Ok(0));
    assert_eq!(writer.append(3, b"x").await.unwrap_err().kind, "SequenceGap");
    let mut grown = writer.request(2, b"x");
    grown.expected_offset = Some(7);
    writer.send(grown).await;
    let Some(Outcome::Error(detail)) = writer.reply().await.outcome else { panic!("it was taken") };
    assert_eq!((detail.kind.as_str(), detail.numbers), ("LengthMismatch", vec![7, 1]));
    let mut rotten = writer.request(2, b"x");
    rotten.crc32c ^= 1;
    writer.send(rotten).await;
    let Some(Outcome::Error(detail)) = writer.reply().await.outcome else { panic!("it was taken") };
    assert_eq!(detail.kind, "ChecksumMismatch");
    assert_eq!(writer.refused(2, b"").await, "Malformed");
    assert_eq!(writer.refused(2, &vec![0; (1 << 20) + 1]).await, "Malformed");
    let mut nowhere = Writer::open(&cluster.nodes[0], 999, 77).await;
    assert_eq!(nowhere.refused(1, b"x").await, "NoSuchChunk");
    assert_eq!(writer.append(2, b"y").await, Ok(1));
    assert_eq!(read(&cluster.nodes[0], chunk, 0, 2, 0).await.unwrap(), b"xy");
}

async fn a_writer_of_an_older_generation_is_fenced_with_its_last_sequence(transport: Transport) {
    let cluster = TestCluster::start_over(transport, 1).await;
    let mark = v1::WriterMark { writer: 77, sequence: 8, offset: 900 };
    let chunk = cluster.meta.open_chunk(&[cluster.nodes[0].id], 1 << 20, &[mark]);
    let mut writer = cluster.writer(chunk).await;
    // Its sequences go on from the chunk before.
    assert_eq!(writer.append(9, b"x").await, Ok(0));
    writer.generation = 4;
    let detail = writer.append(10, b"x").await.unwrap_err();
    assert_eq!((detail.kind.as_str(), detail.numbers), ("Fenced", vec![5, 9]));
    writer.generation = 6;
    assert_eq!(writer.refused(10, b"x").await, "ChunkFenced");
}

async fn a_grant_is_renewed_before_and_when_it_is_used_up(transport: Transport) {
    let cluster = TestCluster::start_over(transport, 1).await;
    let chunk = cluster.meta.open_chunk(&[cluster.nodes[0].id], 1000, &[]);
    let mut writer = cluster.writer(chunk).await;
    assert_eq!(writer.append(1, &[1; 400]).await, Ok(0));
    assert!(cluster.meta.state().grants.is_empty());
    assert_eq!(writer.append(2, &[2; 400]).await, Ok(400));
    cluster.meta.wait(|state| state.grants.iter().find(|grant| grant.grant_bytes == 2000).copied()).await;
    assert_eq!(writer.append(3, &[3; 5000]).await, Ok(800));
    let last = cluster.meta.state().grants.last().copied().unwrap();
    assert!(last.grant_bytes >= 5800, "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn room_that_is_given_with_a_pause_is_used_after_it() {
    let cluster = TestCluster::start(1).await;
    let chunk = cluster.meta.open_chunk(&[cluster.nodes[0].id], 1000, &[]);
    // Beyond the longest pause that there is.
    cluster.meta.state().pause_ms = 10_000;
    let mut writer = cluster.writer(chunk).await;
    assert_eq!(writer.append(1, &[1; 400]).await, Ok(0));
    let begun = SystemClock.boottime();
    assert_eq!(writer.append(2, &[2; 5000]).await, Ok(400));
    let took = SystemClock.boottime().saturating_sub(begun);
    assert!(took >= Duration::from_millis(LAG_PAUSE_MS_MAX), "{took:?}");
    assert!(took < Duration::from_millis(9_000), "the pause is bounded: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_with_its_node_and_its_figures() {
    let cluster = TestCluster::start_with(1, |config| config.capacity_mib = 40).await;
    let node = cluster.nodes[0].id;
    let mut writer = cluster.writer(cluster.open_chunk(1)).await;
    let (data, mut sequence) = (vec![7; 1 << 20], 1);
    let refused = loop {
        match writer.append(sequence, &data).await {
            Ok(_) => sequence += 1,
            Err(refused) => break refused,
        }
        assert!(sequence <= 40, "a disk of 40 MiB takes all there is");
    };
    let told = status::parse_detail(&refused, "");
    let Some(WireError::Service(ServiceError::DiskFull { node: whose, free_bytes, capacity_bytes })) = told
    else {
        panic!("{refused:?}")
    };
    assert_eq!(whose, NodeId(node));
    assert!((4 << 20..40 << 20).contains(&capacity_bytes) && free_bytes < capacity_bytes, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused() {
    let cluster = TestCluster::start(1).await;
    let mut client = cluster.nodes[0].client().await;
    let status = client.node_status(Request::new(v1::NodeStatusRequest::default())).await.unwrap_err();
    assert_eq!(kind(status), "ForeignProtocol");
    let mut request = Request::new(v1::NodeStatusRequest::default());
    cairn_proto::handshake::stamp(&mut request, Some(cairn_types::ClusterId([9; 16])));
    assert_eq!(kind(client.node_status(request).await.unwrap_err()), "ForeignCluster");
}
