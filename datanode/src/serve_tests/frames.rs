//! The framed transport itself: who is let in, and what becomes of those who speak it badly.

use std::time::Duration;

use cairn_proto::frames::{
    HEADER_BYTES, Hello, Inlet, Kind, Lane, PeerKind, Refusal, Route, Routes, Transport, WELCOME_BYTES,
    Welcome, encode,
};
use cairn_proto::v1;
use cairn_proto::v1::append_reply::Outcome;
use cairn_types::ClusterId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::cluster::{TestCluster, TestNode, WAIT, read, tail_length};
use super::meta::{CLUSTER, stamped};
use crate::frames::SOCKET_NAME;

async fn connect(node: &TestNode) -> TcpStream {
    TcpStream::connect(&node.address).await.unwrap()
}

/// Says hello and answers what comes back.
async fn greet(stream: &mut TcpStream, hello: &[u8]) -> Welcome {
    stream.write_all(hello).await.unwrap();
    let mut welcome = [0; WELCOME_BYTES];
    tokio::time::timeout(WAIT, stream.read_exact(&mut welcome)).await.expect("no welcome").unwrap();
    Welcome::decode(&welcome).unwrap()
}

async fn greeted(node: &TestNode) -> TcpStream {
    let mut stream = connect(node).await;
    let welcome = greet(&mut stream, &Hello::new(PeerKind::Client, CLUSTER).encode()).await;
    assert_eq!(welcome.offer.unwrap().node.0, node.id);
    stream
}

/// Waits until the node closes the connection; nothing more is said on it.
async fn closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    // Closed with bytes unread it is reset, which is as good.
    let ended = tokio::time::timeout(WAIT, stream.read_to_end(&mut rest)).await.expect("it stays open");
    assert!(rest.is_empty() && ended.unwrap_or(0) == 0, "{rest:?}");
}

/// What every test ends with: the node serves as before, and holds what it held.
async fn serves(cluster: &TestCluster, chunk: u64, kept: &[u8]) {
    let node = &cluster.nodes[0];
    assert_eq!(tail_length(node, chunk).await.unwrap(), kept.len() as u64);
    assert_eq!(read(node, chunk, 0, kept.len() as u64, 0).await.unwrap(), kept);
}

async fn with_an_append() -> (TestCluster, u64) {
    let cluster = TestCluster::start_over(Transport::Tcp, 1).await;
    let chunk = cluster.open_chunk(1);
    assert_eq!(cluster.writer(chunk).await.append(1, b"kept").await, Ok(0));
    (cluster, chunk)
}

fn append(chunk: u64, sequence: u64) -> v1::AppendRequest {
    v1::AppendRequest {
        chunk,
        generation: super::cluster::GENERATION,
        writer: 77,
        sequence,
        data: b"more".as_slice().into(),
        crc32c: crc32c::crc32c(b"more"),
        ..v1::AppendRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_belong_is_told_why_and_put_out() {
    let (cluster, chunk) = with_an_append().await;
    let node = &cluster.nodes[0];
    let ours = Hello::new(PeerKind::Client, CLUSTER);
    let newer = Hello { version: ours.version + 9, version_min: ours.version + 1, ..ours };
    let mut damaged = ours.encode();
    damaged[30] ^= 4;
    let elsewhere = cairn_types::NodeId(node.id + 1);
    for (hello, refusal) in [
        (Hello::new(PeerKind::Client, ClusterId([9; 16])).encode(), Refusal::ForeignCluster),
        (newer.encode(), Refusal::Version),
        (damaged, Refusal::Malformed),
        (Hello { node: elsewhere, ..ours }.encode(), Refusal::OtherNode),
    ] {
        let mut stream = connect(node).await;
        assert_eq!(greet(&mut stream, &hello).await.offer, Err(refusal));
        closed(stream).await;
    }
    serves(&cluster, chunk, b"kept").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_its_connection_and_changes_nothing() {
    let (cluster, chunk) = with_an_append().await;
    let node = &cluster.nodes[0];
    // Neither HTTP/2 nor frames, from the first byte on.
    let mut stream = connect(node).await;
    stream.write_all(&[0x5a; 4096]).await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(WAIT, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "it stays open");
    // A frame with a flipped bit, one that is too long, one of no call, a call's message without its call's
    // beginning in the same stream twice, and plain noise.
    let good = encode(1, true, append(chunk, 2));
    let mut flipped = good.clone();
    flipped[HEADER_BYTES + 1] ^= 1;
    let mut oversize = vec![0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    let crc32c = crc32c::crc32c(&oversize);
    oversize.extend(crc32c.to_le_bytes());
    let reply = encode(1, true, v1::AppendReply::default());
    let noise: Vec<u8> = (0..5000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for bytes in [flipped, oversize, reply, noise] {
        let mut stream = greeted(node).await;
        // It may be closed before all is written.
        let _ = stream.write_all(&bytes).await;
        closed(stream).await;
        serves(&cluster, chunk, b"kept").await;
    }
    // The same stream opened twice: the first append is taken, then the connection is closed.
    let mut stream = greeted(node).await;
    stream.write_all(&[good.clone(), good].concat()).await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(WAIT, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "it stays open");
    assert_eq!(cluster.writer(chunk).await.append(2, b"more").await, Ok(4));
    serves(&cluster, chunk, b"keptmore").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_too_slow_to_say_hello_is_put_out() {
    let (cluster, chunk) = with_an_append().await;
    let hello = Hello::new(PeerKind::Client, CLUSTER).encode();
    let mut stream = connect(&cluster.nodes[0]).await;
    stream.write_all(&hello[..40]).await.unwrap();
    closed(stream).await;
    serves(&cluster, chunk, b"kept").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_cut_off_by_its_sender_is_not_appended() {
    let (cluster, chunk) = with_an_append().await;
    let bytes = encode(1, true, append(chunk, 2));
    let mut stream = greeted(&cluster.nodes[0]).await;
    stream.write_all(&bytes[..bytes.len() - 1]).await.unwrap();
    stream.shutdown().await.unwrap();
    closed(stream).await;
    serves(&cluster, chunk, b"kept").await;
    assert_eq!(cluster.writer(chunk).await.append(2, b"whole").await, Ok(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn late_frames_of_a_call_that_is_over_are_dropped_and_the_connection_goes_on() {
    let (cluster, chunk) = with_an_append().await;
    let stream = greeted(&cluster.nodes[0]).await;
    let (reader, mut writer) = stream.into_split();
    let mut inlet = Inlet::new(reader);
    let mut next = async || tokio::time::timeout(WAIT, inlet.next()).await.unwrap().unwrap().unwrap();
    // Of a stream that was never opened; then a call that fails; then more of it; then one that goes well.
    writer.write_all(&encode(9, false, append(chunk, 2))).await.unwrap();
    let tail = |chunk| v1::TailLengthRequest { chunk, epoch: 1 };
    writer.write_all(&encode(10, true, tail(999))).await.unwrap();
    let refused = next().await;
    assert_eq!((refused.kind, refused.stream), (Kind::Refused, 10));
    assert_eq!(refused.message::<v1::ErrorDetail>().unwrap().kind, "NotFound");
    writer.write_all(&encode(10, false, append(chunk, 2))).await.unwrap();
    writer.write_all(&encode(11, true, append(chunk, 2))).await.unwrap();
    let appended = next().await;
    assert_eq!((appended.kind, appended.stream), (Kind::Appended, 11));
    let outcome = appended.message::<v1::AppendReply>().unwrap().outcome;
    assert_eq!(outcome, Some(Outcome::Offset(4)));
    serves(&cluster, chunk, b"keptmore").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_no_answers_holds_up_nobody_else() {
    let cluster = TestCluster::start_over(Transport::Tcp, 1).await;
    let chunk = cluster.open_chunk(1);
    let mut writer = cluster.writer(chunk).await;
    let data = vec![7; 1 << 20];
    for n in 0..16u64 {
        assert_eq!(writer.append(n + 1, &data).await, Ok(n << 20));
    }
    // More than the buffers of two sockets hold, asked for many times, and never taken.
    let mut stream = greeted(&cluster.nodes[0]).await;
    for id in 1..=200 {
        let source = v1::ChunkRange { chunk, ..v1::ChunkRange::default() };
        let request = v1::ReadRequest {
            source: Some(v1::read_request::Source::Chunk(source)),
            length: 16 << 20,
            ..v1::ReadRequest::default()
        };
        stream.write_all(&encode(id, true, request)).await.unwrap();
    }
    let first = stream.readable();
    tokio::time::timeout(WAIT, first).await.expect("nothing comes").unwrap();
    assert_eq!(writer.append(17, b"on").await, Ok(16 << 20));
    assert_eq!(read(&cluster.nodes[0], chunk, 0, 16 << 20, 0).await.unwrap().len(), 16 << 20);
    drop(stream);
    assert_eq!(writer.append(18, b"and on").await, Ok((16 << 20) + 2));
}

/// Appends until so little room is left that acknowledgements are held back for some milliseconds each.
/// Answers a chunk that is not empty.
async fn fill(cluster: &TestCluster) -> u64 {
    let (mut client, data) = (cluster.nodes[0].client().await, vec![7; 1 << 20]);
    loop {
        let chunk = cluster.open_chunk(1);
        let mut writer = cluster.writer(chunk).await;
        for sequence in 1..=40 {
            assert!(writer.append(sequence, &data).await.is_ok());
            let status = client.node_status(stamped(v1::NodeStatusRequest::default())).await.unwrap();
            if status.into_inner().room_bytes < 6 << 20 {
                return chunk;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_slows_appends_and_no_other_request_of_their_connection() {
    // More than may wait for their handler, and less than may be unanswered.
    const APPENDS: u64 = 12_000;
    let cluster = TestCluster::start_with(1, |config| {
        (config.capacity_mib, config.transport) = (128, "tcp".to_owned());
    })
    .await;
    let node = &cluster.nodes[0];
    let (full, log) = (fill(&cluster).await, cluster.open_chunk(1));
    let (reader, mut writer) = greeted(node).await.into_split();
    let range = v1::ChunkRange { chunk: full, ..v1::ChunkRange::default() };
    let source = Some(v1::read_request::Source::Chunk(range));
    let request = v1::ReadRequest { source, length: 128, ..v1::ReadRequest::default() };
    let mut bytes: Vec<u8> = (1..=APPENDS).flat_map(|n| encode(1, n == 1, append(log, n))).collect();
    bytes.extend(encode(2, true, request));
    let writing = tokio::spawn(async move { writer.write_all(&bytes).await.map(|()| writer) });
    let mut inlet = Inlet::new(reader);
    let mut acknowledged = 0;
    loop {
        let frame = tokio::time::timeout(WAIT, inlet.next()).await.expect("nothing comes").unwrap().unwrap();
        match (frame.kind, frame.stream) {
            (Kind::Appended, 1) => acknowledged += 1,
            (Kind::Block, 2) => break,
            other => panic!("{other:?}"),
        }
    }
    // All appends came before the read; it would wait for the acknowledgement of many if their handler slept.
    assert!(acknowledged < 3_000, "{acknowledged} appends were acknowledged before the read behind them");
    drop(writing.await.unwrap().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_takes_no_frames_is_called_by_grpc() {
    let cluster = TestCluster::start_over(Transport::Grpc, 1).await;
    let routes = Routes::new(PeerKind::Client, Transport::Auto);
    let route = routes.route(&cluster.nodes[0].address, Lane::Reads, CLUSTER).await.unwrap();
    assert!(matches!(route, Route::Grpc), "{route:?}");
    assert!(!cluster.nodes[0].dir().join(SOCKET_NAME).exists());
    // One of another cluster too: there gRPC says why.
    let cluster = TestCluster::start_over(Transport::Tcp, 1).await;
    let foreign = routes.route(&cluster.nodes[0].address, Lane::Reads, ClusterId([9; 16])).await.unwrap();
    assert!(matches!(foreign, Route::Grpc), "{foreign:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_there_while_the_node_is_and_again_after_a_kill() {
    let mut cluster = TestCluster::start(1).await;
    let path = cluster.nodes[0].dir().join(SOCKET_NAME);
    assert!(UnixStream::connect(&path).await.is_ok());
    let node = cluster.nodes.remove(0).restart().await;
    assert!(UnixStream::connect(&path).await.is_ok());
    let routes = Routes::new(PeerKind::Client, Transport::Auto);
    let Route::Frames(caller) = routes.route(&node.address, Lane::Reads, CLUSTER).await.unwrap() else {
        panic!("by gRPC")
    };
    assert!(caller.is_local() && !caller.is_over());
    node.stop().await;
    let over = async {
        while !caller.is_over() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WAIT, over).await.expect("the connection outlives the node");
    assert!(UnixStream::connect(&path).await.is_err());
}
