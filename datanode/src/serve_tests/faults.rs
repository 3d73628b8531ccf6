//! Replicas that go away, are fenced, or restart.

use cairn_proto::frames::Transport;
use cairn_proto::v1;
use cairn_proto::v1::append_reply::Outcome;
use cairn_proto::v1::replicate_reply::Outcome as Said;
use cairn_proto::v1::replicate_request::Message;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::cluster::{GENERATION, TestCluster, TestNode, WAIT, Way, kind, read, tail_length};
use super::meta::stamped;
use crate::chunk::AppendRecord;
use crate::replicate::record;

over_each_transport!(
    a_secondary_that_dies_stops_the_acks_and_the_chunk_is_sealed_without_it,
    a_secondary_that_cannot_be_reached_prevents_every_ack,
    nothing_is_acknowledged_after_the_primary_is_fenced,
    a_fence_at_one_secondary_stops_all_acks,
    a_secondary_takes_records_in_their_order_alone_and_none_after_its_fence,
    a_node_that_restarted_is_in_limbo_keeps_its_bytes_and_asks_for_the_seal,
    a_fenced_replica_that_restarted_says_limbo,
);

async fn a_secondary_that_dies_stops_the_acks_and_the_chunk_is_sealed_without_it(transport: Transport) {
    let mut cluster = TestCluster::start_over(transport, 3).await;
    let chunk = cluster.open_chunk(3);
    let mut writer = cluster.writer(chunk).await;
    assert_eq!(writer.append(1, b"kept").await, Ok(0));
    let dead = cluster.nodes[2].id;
    cluster.nodes[2].kill();
    assert_eq!(writer.refused(2, b"unknown").await, "ChunkFenced");
    assert_eq!(writer.refused(3, b"never").await, "ChunkFenced");
    let asked = cluster.meta.wait(|state| state.seals.first().cloned()).await;
    assert_eq!((asked.chunk, asked.epoch, asked.blame_node), (chunk, 1, dead));
    let sealed = |state: &super::meta::State| {
        state.chunks.get(&chunk).filter(|c| c.state() == v1::ChunkState::Sealed).cloned()
    };
    let sealed = cluster.meta.wait(sealed).await;
    // What was not acknowledged may be there, and only once.
    assert!([4, 11].contains(&sealed.length), "{}", sealed.length);
    assert_eq!(cluster.meta.state().seals.len(), 1);
    for node in &cluster.nodes[..2] {
        assert_eq!(read(node, chunk, 0, 4, 4).await.unwrap(), b"kept");
    }
    assert_eq!(kind(tail_length(&cluster.nodes[0], chunk).await.unwrap_err()), "ChunkFenced");
}

async fn a_secondary_that_cannot_be_reached_prevents_every_ack(transport: Transport) {
    let mut cluster = TestCluster::start_over(transport, 3).await;
    cluster.nodes[1].kill();
    let chunk = cluster.open_chunk(3);
    let mut writer = cluster.writer(chunk).await;
    assert_eq!(writer.refused(1, b"x").await, "ChunkFenced");
    let asked = cluster.meta.wait(|state| state.seals.first().cloned()).await;
    assert_eq!(asked.blame_node, cluster.nodes[1].id);
}

async fn nothing_is_acknowledged_after_the_primary_is_fenced(transport: Transport) {
    let cluster = TestCluster::start_over(transport, 2).await;
    let chunk = cluster.open_chunk(2);
    let mut writer = cluster.writer(chunk).await;
    assert_eq!(writer.append(1, b"before").await, Ok(0));
    let primary = cluster.meta.chunk(chunk).replicas[0].clone();
    let answer = cluster.meta.fence(&primary, chunk, 2).await.unwrap();
    assert_eq!((answer.length, answer.health, answer.heard_committed), (6, 0, 6));
    assert_eq!(writer.refused(2, b"after").await, "ChunkFenced");
    assert_eq!(writer.refused(1, b"before").await, "ChunkFenced");
    assert_eq!(kind(tail_length(&cluster.nodes[0], chunk).await.unwrap_err()), "ChunkFenced");
    // The same fence again gets the same answer; an older one is refused.
    assert_eq!(cluster.meta.fence(&primary, chunk, 2).await.unwrap().length, 6);
    assert_eq!(cluster.meta.fence(&primary, chunk, 3).await.unwrap().length, 6);
    assert_eq!(kind(cluster.meta.fence(&primary, chunk, 2).await.unwrap_err()), "ChunkFenced");
}

async fn a_fence_at_one_secondary_stops_all_acks(transport: Transport) {
    let cluster = TestCluster::start_over(transport, 3).await;
    let chunk = cluster.open_chunk(3);
    let mut writer = cluster.writer(chunk).await;
    assert_eq!(writer.append(1, b"before").await, Ok(0));
    let secondary = cluster.meta.chunk(chunk).replicas[2].clone();
    cluster.meta.fence(&secondary, chunk, 2).await.unwrap();
    for n in 0..10u64 {
        writer.send(writer.request(n + 2, b"after")).await;
    }
    for _ in 0..10 {
        let Some(Outcome::Error(detail)) = writer.reply().await.outcome else { panic!("acknowledged") };
        assert_eq!(detail.kind, "ChunkFenced");
    }
}

/// A replication stream as a primary opens it.
struct Forward {
    requests: Way<v1::ReplicateRequest>,
    replies: BoxStream<'static, Result<v1::ReplicateReply, Status>>,
}

impl Forward {
    async fn open(node: &TestNode) -> Self {
        if let Some((requests, replies)) = node.frames().await {
            return Self { requests: Way::Frames(requests), replies: replies.boxed() };
        }
        let (requests, sent) = mpsc::channel(16);
        let mut client = node.client().await;
        let replies =
            client.replicate(stamped(ReceiverStream::new(sent))).await.unwrap().into_inner().boxed();
        Self { requests: Way::Grpc(requests), replies }
    }

    async fn say(&mut self, message: Message) -> Said {
        self.requests.send(v1::ReplicateRequest { message: Some(message), trace: 0 }).await;
        let reply = tokio::time::timeout(WAIT, self.replies.next()).await.expect("no reply");
        reply.expect("the stream ended").unwrap().outcome.unwrap()
    }
}

fn forwarded(
    chunk: u64,
    offset: u64,
    previous: u32,
    sequence: u64,
    data: &'static [u8],
) -> v1::ReplicaRecord {
    let mut made = AppendRecord {
        chunk: chunk.into(),
        epoch: record::OPENED,
        offset,
        generation: GENERATION.into(),
        writer: 77.into(),
        sequence: sequence.into(),
        payload_crc32c: crc32c::crc32c(data),
        previous_chain: cairn_types::Chain(previous),
        chain: cairn_types::Chain(0),
        committed: 0,
        payload: data.into(),
        close: false,
    };
    made.chain = made.next_chain();
    record::to_wire(&made)
}

fn creation(cluster: &TestCluster, chunk: u64, at: usize) -> Message {
    let found = cluster.meta.chunk(chunk);
    Message::Create(v1::CreateReplica {
        primary_incarnation: found.replicas[0].incarnation,
        replica_incarnation: found.replicas[at].incarnation,
        chunk: Some(found),
    })
}

async fn a_secondary_takes_records_in_their_order_alone_and_none_after_its_fence(transport: Transport) {
    let cluster = TestCluster::start_over(transport, 2).await;
    let chunk = cluster.open_chunk(2);
    let mut forward = Forward::open(&cluster.nodes[1]).await;
    assert_eq!(forward.say(creation(&cluster, chunk, 1)).await, Said::Created(true));
    let first = forwarded(chunk, 0, 0, 1, b"one");
    assert_eq!(forward.say(Message::Record(first.clone())).await, Said::Durable(3));
    let replica = cluster.meta.chunk(chunk).replicas[1].clone();
    let fenced = cluster.meta.fence(&replica, chunk, 2).await.unwrap();
    assert_eq!((fenced.length, fenced.chain), (3, first.chain));
    // Late, and in its order: refused all the same.
    let late = forwarded(chunk, 3, first.chain, 2, b"two");
    let Said::Refused(detail) = forward.say(Message::Record(late)).await else { panic!("taken") };
    assert_eq!(detail.kind, "ChunkFenced");
    // A late creation too, by another stream.
    let mut again = Forward::open(&cluster.nodes[1]).await;
    let Said::Refused(detail) = again.say(creation(&cluster, chunk, 1)).await else { panic!("made") };
    assert_eq!(detail.kind, "ChunkFenced");

    let other = cluster.open_chunk(2);
    let mut gap = Forward::open(&cluster.nodes[1]).await;
    assert_eq!(gap.say(creation(&cluster, other, 1)).await, Said::Created(true));
    let early = forwarded(other, 3, 0, 1, b"x");
    assert!(matches!(gap.say(Message::Record(early)).await, Said::Refused(_)));
    let mut stranger = Forward::open(&cluster.nodes[1]).await;
    let unknown = forwarded(other, 0, 0, 1, b"x");
    assert!(matches!(stranger.say(Message::Record(unknown)).await, Said::Refused(_)));
}

async fn a_node_that_restarted_is_in_limbo_keeps_its_bytes_and_asks_for_the_seal(transport: Transport) {
    let mut cluster = TestCluster::start_over(transport, 1).await;
    let chunk = cluster.open_chunk(1);
    let replica = cluster.meta.chunk(chunk).replicas[0].clone();
    let mut writer = cluster.writer(chunk).await;
    assert_eq!(writer.append(1, b"kept").await, Ok(0));
    let node = cluster.nodes.remove(0);
    let id = node.id;
    let node = node.restart().await;
    assert_eq!(node.id, id, "the same disk is the same node");
    let asked = cluster.meta.wait(|state| state.seals.first().cloned()).await;
    assert_eq!((asked.chunk, asked.reason.as_str()), (chunk, "node restarted"));
    cluster.nodes.push(node);
    let mut writer = cluster.writer(chunk).await;
    assert_eq!(writer.refused(2, b"never").await, "ChunkFenced");
    assert_ne!(cluster.meta.state().nodes[0].incarnation, replica.incarnation);
    // The fake leader decides on all replicas in limbo: the seal holds what was acknowledged.
    let sealed = |state: &super::meta::State| {
        state.chunks.get(&chunk).filter(|c| c.state() == v1::ChunkState::Sealed).cloned()
    };
    assert_eq!(cluster.meta.wait(sealed).await.length, 4);
    assert_eq!(read(&cluster.nodes[0], chunk, 0, 4, 4).await.unwrap(), b"kept");
}

async fn a_fenced_replica_that_restarted_says_limbo(transport: Transport) {
    let mut cluster = TestCluster::start_over(transport, 2).await;
    let chunk = cluster.open_chunk(2);
    let replica = cluster.meta.chunk(chunk).replicas[1].clone();
    let mut writer = cluster.writer(chunk).await;
    assert_eq!(writer.append(1, b"kept").await, Ok(0));
    cluster.meta.state().seals_held = true;
    let node = cluster.nodes.remove(1);
    let _node = node.restart().await;
    let answer = cluster.meta.fence(&replica, chunk, 9).await.unwrap();
    assert_eq!((answer.length, answer.health), (4, 1));
    assert_ne!(answer.incarnation, replica.incarnation);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_meant_for_another_node_is_no_answer_of_this_one() {
    let cluster = TestCluster::start(3).await;
    let chunk = cluster.open_chunk(2);
    let record = cluster.meta.chunk(chunk);
    let holds = |node: &v1::Replica| record.replicas.iter().any(|replica| replica.node == node.node);
    let stranger = cluster.meta.state().nodes.iter().find(|node| !holds(node)).cloned().unwrap();
    // As if it had been started at the address of a node that is gone.
    let refused = cluster.meta.fence(&stranger, chunk, 9).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound, "{refused}");
    let answer = cluster.meta.fence(&record.replicas[0], chunk, 9).await.unwrap();
    assert_eq!(answer.length, 0);
}
