//! Retries of appends by bare gRPC against the primary: a lost acknowledgement, a client that dies
//! after sending, a repeat after the seal, an append that names the wrong sequence.

use std::time::Duration;

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::{self, AppendReply, AppendRequest, OpenTail, append_reply};
use cairn_sdk::Client;
use cairn_sdk::types::{SessionId, WriterId};
use cairn_tests::cluster::{Cluster, ClusterOptions, Wire, eventually, record, records};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const LOG: &str = "/log";
const LENGTH: usize = 100;

/// A file with an open tail and a writer that speaks to its primary directly.
struct Setup {
    _cluster: Cluster,
    client: Client,
    wire: Wire,
    session: u64,
    writer: u64,
    ino: u64,
    /// The sequence of the next change in the session.
    change: u64,
    chunk: v1::Chunk,
}

/// One append stream.
struct Stream {
    requests: mpsc::Sender<AppendRequest>,
    replies: tonic::Streaming<AppendReply>,
}

impl Setup {
    async fn start() -> Self {
        // Nobody but the test is to have the chunk sealed.
        let cluster = Cluster::start(ClusterOptions::default().steady()).await.unwrap();
        let client = cluster.client().await.unwrap();
        client.put(LOG, 0o644, b"").await.unwrap();
        let wire = Wire::new(&cluster, &client);
        let session = wire.open_session().await.unwrap();
        let writer = WriterId::of(SessionId(session), 1).unwrap().0;
        let ino = client.stat(LOG).await.unwrap().ino.0;
        let chunk = v1::Chunk::default();
        let mut setup = Self { _cluster: cluster, client, wire, session, writer, ino, change: 0, chunk };
        setup.open_tail().await;
        setup
    }

    async fn open_tail(&mut self) {
        self.change += 1;
        let open = OpenTail { ino: self.ino, generation: 0, writer: self.writer, avoid: Vec::new() };
        let reply = self.wire.mutate(self.session, self.change, Operation::OpenTail(open)).await.unwrap();
        self.chunk = reply.chunk.unwrap();
    }

    fn append(&self, sequence: u64) -> AppendRequest {
        let data = record(1, sequence, LENGTH);
        AppendRequest {
            chunk: self.chunk.chunk,
            generation: self.chunk.activation.as_ref().unwrap().generation,
            writer: self.writer,
            sequence,
            expected_offset: None,
            crc32c: crc32c::crc32c(&data),
            data: data.into(),
            ..AppendRequest::default()
        }
    }

    async fn stream(&self) -> Stream {
        let primary = self.chunk.replicas.iter().find(|r| r.node == self.chunk.primary).unwrap();
        let (requests, queue) = mpsc::channel(16);
        let mut data = self.wire.data(&primary.address).await.unwrap();
        let request = self.wire.request(ReceiverStream::new(queue));
        let replies = data.append(request).await.unwrap().into_inner();
        Stream { requests, replies }
    }

    async fn committed(&self) -> u64 {
        let primary = self.chunk.replicas.iter().find(|r| r.node == self.chunk.primary).unwrap();
        let mut data = self.wire.data(&primary.address).await.unwrap();
        let request = v1::TailLengthRequest { chunk: self.chunk.chunk, epoch: self.chunk.epoch };
        data.tail_length(self.wire.request(request)).await.map_or(0, |r| r.into_inner().committed)
    }

    async fn numbers(&self) -> Vec<u64> {
        let file = self.client.open(LOG).await.unwrap();
        let bytes = file.read_at(0, 1 << 20).await.unwrap();
        records(&bytes).unwrap().into_iter().map(|f| f.number).collect()
    }
}

impl Stream {
    async fn reply(&mut self) -> AppendReply {
        let reply = tokio::time::timeout(Duration::from_secs(60), self.replies.message()).await;
        reply.unwrap().unwrap().unwrap()
    }

    async fn append(&mut self, request: AppendRequest) -> AppendReply {
        self.requests.send(request).await.unwrap();
        self.reply().await
    }
}

fn offset(reply: &AppendReply) -> u64 {
    match &reply.outcome {
        Some(append_reply::Outcome::Offset(offset)) => *offset,
        other => panic!("not acknowledged: {other:?}"),
    }
}

fn refusal(reply: &AppendReply) -> String {
    match &reply.outcome {
        Some(append_reply::Outcome::Error(detail)) => detail.kind.clone(),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_resends_after_a_lost_ack() {
    let setup = Setup::start().await;
    let mut first = setup.stream().await;
    assert_eq!(offset(&first.append(setup.append(1)).await), 0);
    assert_eq!(offset(&first.append(setup.append(2)).await), LENGTH as u64);
    drop(first);
    // It never saw the answers, and asks again over a new stream.
    let mut second = setup.stream().await;
    assert_eq!(offset(&second.append(setup.append(1)).await), 0);
    assert_eq!(offset(&second.append(setup.append(2)).await), LENGTH as u64);
    assert_eq!(offset(&second.append(setup.append(3)).await), 2 * LENGTH as u64);
    assert_eq!(setup.numbers().await, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_dies_after_sending_before_the_ack() {
    let setup = Setup::start().await;
    let first = setup.stream().await;
    for sequence in 1..=5 {
        first.requests.send(setup.append(sequence)).await.unwrap();
    }
    drop(first);
    // Its retry gets the offsets, or appends what did not arrive; either way each is there once.
    let mut second = setup.stream().await;
    for sequence in 1..=5 {
        let reply = second.append(setup.append(sequence)).await;
        assert_eq!(offset(&reply), (sequence - 1) * LENGTH as u64);
    }
    assert_eq!(setup.numbers().await, [1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_over_a_seal_is_resolved_by_the_marks() {
    let mut setup = Setup::start().await;
    let first = setup.stream().await;
    for sequence in 1..=3 {
        first.requests.send(setup.append(sequence)).await.unwrap();
    }
    let arrived = || async { (setup.committed().await == 3 * LENGTH as u64).then_some(()) };
    eventually("three records", Duration::from_secs(60), arrived).await.unwrap();
    drop(first);
    let sealed = setup.wire.seal(setup.chunk.chunk).await.unwrap();
    assert_eq!(sealed.length, 3 * LENGTH as u64);
    let mark = sealed.marks.iter().find(|m| m.writer == setup.writer).unwrap();
    assert_eq!((mark.sequence, mark.offset), (3, 2 * LENGTH as u64));

    // The sealed chunk takes nothing more.
    let mut old = setup.stream().await;
    let late = setup.append(4);
    assert_ne!(refusal(&old.append(late).await), "");
    // The next chunk knows what the old one answered: a repeat is no new record.
    setup.open_tail().await;
    assert_ne!(setup.chunk.chunk, sealed.chunk);
    let carried = setup.chunk.marks.iter().find(|m| m.writer == setup.writer).unwrap();
    assert_eq!(carried.sequence, 3);
    let mut next = setup.stream().await;
    let repeat = next.append(setup.append(3)).await;
    println!("a repeat of an old sequence in the next chunk: {:?}", repeat.outcome);
    assert_eq!(offset(&next.append(setup.append(4)).await), 0);
    assert_eq!(setup.numbers().await, [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_primary_must_refuse_it_refuses() {
    let setup = Setup::start().await;
    let mut stream = setup.stream().await;
    assert_eq!(offset(&stream.append(setup.append(1)).await), 0);
    // A gap in the writer's sequences.
    assert_eq!(refusal(&stream.append(setup.append(3)).await), "SequenceGap");
    // Bytes that are not what their checksum says.
    let mut garbled = setup.append(2);
    garbled.crc32c ^= 1;
    assert_eq!(refusal(&stream.append(garbled).await), "ChecksumMismatch");
    // Another end than the one expected.
    let mut elsewhere = setup.append(2);
    elsewhere.expected_offset = Some(7);
    assert_eq!(refusal(&stream.append(elsewhere).await), "LengthMismatch");
    // No bytes.
    let mut empty = setup.append(2);
    empty.data = Default::default();
    empty.crc32c = crc32c::crc32c(&[]);
    assert_ne!(refusal(&stream.append(empty).await), "");
    // A chunk that nobody knows.
    let mut unknown = setup.append(2);
    unknown.chunk = 1 << 40;
    assert_ne!(refusal(&stream.append(unknown).await), "");
    // After all that the next in turn is taken, and nothing else is there.
    assert_eq!(offset(&stream.append(setup.append(2)).await), LENGTH as u64);
    assert_eq!(setup.numbers().await, [1, 2]);
    // A secondary is no primary.
    let secondary = setup.chunk.replicas.iter().find(|r| r.node != setup.chunk.primary).unwrap();
    let (requests, queue) = mpsc::channel(1);
    let mut data = setup.wire.data(&secondary.address).await.unwrap();
    let replies = data.append(setup.wire.request(ReceiverStream::new(queue))).await.unwrap().into_inner();
    let mut stream = Stream { requests, replies };
    assert_eq!(refusal(&stream.append(setup.append(3)).await), "NotPrimary");
}
