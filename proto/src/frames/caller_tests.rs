//! The calling side, against a node that is written out step by step.

use std::time::Duration;

use cairn_types::{Incarnation, NodeId};
use futures::StreamExt;
use tokio::io::{AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;
use tonic::Code;

use super::*;
use crate::v1;

const WAIT: Duration = Duration::from_secs(20);
const QUIET: Duration = Duration::from_millis(400);

/// The other side of a connection.
struct Node {
    inlet: Inlet<ReadHalf<DuplexStream>>,
    io: WriteHalf<DuplexStream>,
}

impl Node {
    fn start(buffer: usize) -> (Caller, Self) {
        let (ours, theirs) = duplex(buffer);
        let (reader, writer) = split(ours);
        let offer = Offer {
            node: NodeId(1),
            incarnation: Incarnation(2),
            boot_id: [0; 16],
            socket: Default::default(),
        };
        let (inlet, io) = split(theirs);
        (Caller::start(reader, writer, offer, false, QUIET), Self { inlet: Inlet::new(inlet), io })
    }

    async fn hears(&mut self) -> Frame {
        let frame = timeout(WAIT, self.inlet.next()).await.expect("nothing comes");
        frame.unwrap().expect("the connection ended")
    }

    async fn says<M: Framed>(&mut self, stream: u32, message: M) {
        self.io.write_all(&encode(stream, false, message)).await.unwrap();
    }

    async fn marks(&mut self, kind: Kind, stream: u32) {
        self.io.write_all(&message::bare(kind, stream)).await.unwrap();
    }
}

fn open(caller: &Caller) -> (Sending<v1::AppendRequest>, Replies<v1::AppendReply>) {
    caller.open(2, 4).unwrap()
}

fn request(sequence: u64) -> v1::AppendRequest {
    v1::AppendRequest { sequence, data: b"x".as_slice().into(), ..v1::AppendRequest::default() }
}

fn reply(sequence: u64) -> v1::AppendReply {
    v1::AppendReply { sequence, ..v1::AppendReply::default() }
}

async fn next(replies: &mut Replies<v1::AppendReply>) -> Option<Result<u64, tonic::Status>> {
    let reply = timeout(WAIT, replies.next()).await.expect("nothing comes");
    reply.map(|reply| reply.map(|reply| reply.sequence))
}

#[tokio::test]
async fn each_stream_gets_its_replies_and_says_when_it_ends() {
    let (caller, mut node) = Node::start(1 << 16);
    let ((one, mut of_one), (two, mut of_two)) = (open(&caller), open(&caller));
    one.try_send(request(1)).unwrap();
    two.try_send(request(2)).unwrap();
    one.try_send(request(3)).unwrap();
    let heard = [node.hears().await, node.hears().await, node.hears().await];
    assert_eq!(heard.clone().map(|frame| (frame.stream, frame.opens)), [(1, true), (2, true), (1, false)]);
    assert_eq!(heard.map(|frame| frame.message::<v1::AppendRequest>().unwrap().sequence), [1, 2, 3]);
    node.says(2, reply(2)).await;
    node.says(7, reply(9)).await;
    node.says(1, reply(1)).await;
    assert_eq!(next(&mut of_one).await.unwrap().unwrap(), 1);
    assert_eq!(next(&mut of_two).await.unwrap().unwrap(), 2);
    drop(one);
    let end = node.hears().await;
    assert_eq!((end.kind, end.stream), (Kind::End, 1));
    node.says(1, reply(3)).await;
    node.marks(Kind::End, 1).await;
    assert_eq!(next(&mut of_one).await.unwrap().unwrap(), 3);
    assert!(next(&mut of_one).await.is_none());
    // Nobody waits for the second any more.
    drop(of_two);
    let cancel = node.hears().await;
    assert_eq!((cancel.kind, cancel.stream), (Kind::Cancel, 2));
    assert!(!caller.is_over());
}

#[tokio::test]
async fn a_refusal_ends_its_stream_alone_with_its_reason() {
    let (caller, mut node) = Node::start(1 << 16);
    let ((_one, mut of_one), (_two, mut of_two)) = (open(&caller), open(&caller));
    let refused = crate::status::service_error_detail(&crate::ServiceError::Stopping);
    node.says(1, refused).await;
    node.says(2, reply(2)).await;
    let status = next(&mut of_one).await.unwrap().unwrap_err();
    assert_eq!(crate::WireError::from(status), crate::ServiceError::Stopping.into());
    assert!(next(&mut of_one).await.is_none());
    assert_eq!(next(&mut of_two).await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn more_than_may_wait_is_refused_until_it_is_written() {
    // A connection that takes a part of one frame.
    let (caller, mut node) = Node::start(16);
    let (one, _replies) = open(&caller);
    one.try_send(request(1)).unwrap();
    one.try_send(request(2)).unwrap();
    let Err(TrySendError::Full(third)) = one.try_send(request(3)) else { panic!("it was taken") };
    assert_eq!(node.hears().await.message::<v1::AppendRequest>().unwrap(), request(1));
    timeout(WAIT, one.room()).await.expect("no room");
    one.try_send(third).unwrap();
    assert_eq!(node.hears().await.message::<v1::AppendRequest>().unwrap(), request(2));
    assert_eq!(node.hears().await.message::<v1::AppendRequest>().unwrap(), request(3));
}

#[tokio::test]
async fn a_node_that_says_more_than_it_was_asked_for_loses_that_stream() {
    let (caller, mut node) = Node::start(1 << 16);
    let ((_one, mut of_one), (_two, mut of_two)) = (open(&caller), open(&caller));
    for sequence in 1..=5 {
        node.says(1, reply(sequence)).await;
    }
    node.says(2, reply(9)).await;
    assert_eq!(next(&mut of_two).await.unwrap().unwrap(), 9);
    for sequence in 1..=4 {
        assert_eq!(next(&mut of_one).await.unwrap().unwrap(), sequence);
    }
    assert_eq!(next(&mut of_one).await.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_connection_that_breaks_fails_every_stream_and_takes_no_more() {
    let (caller, mut node) = Node::start(1 << 16);
    let ((one, mut of_one), (_two, mut of_two)) = (open(&caller), open(&caller));
    node.io.write_all(b"this is no frame at all, is it?").await.unwrap();
    for replies in [&mut of_one, &mut of_two] {
        assert_eq!(next(replies).await.unwrap().unwrap_err().code(), Code::Unavailable);
        assert!(next(replies).await.is_none());
    }
    assert!(caller.is_over());
    assert!(caller.open::<v1::AppendRequest, v1::AppendReply>(1, 1).is_none());
    // What is sent all the same goes nowhere, and takes no room for ever.
    assert!(one.try_send(request(1)).is_ok());
    timeout(WAIT, one.room()).await.expect("no room");
}

#[tokio::test]
async fn a_silent_node_is_asked_and_then_given_up() {
    let (caller, mut node) = Node::start(1 << 16);
    let (_one, mut of_one) = open(&caller);
    let ping = node.hears().await;
    assert_eq!(ping.kind, Kind::Ping);
    node.marks(Kind::Pong, 0).await;
    let ping = node.hears().await;
    assert_eq!(ping.kind, Kind::Ping);
    assert!(!caller.is_over());
    assert_eq!(next(&mut of_one).await.unwrap().unwrap_err().code(), Code::Unavailable);
    assert!(caller.is_over());
}

#[tokio::test]
async fn the_connection_ends_with_its_last_user() {
    let (caller, mut node) = Node::start(1 << 16);
    let (one, replies) = open(&caller);
    drop(caller);
    one.try_send(request(1)).unwrap();
    assert_eq!(node.hears().await.kind, Kind::Append);
    drop((one, replies));
    assert_eq!(node.hears().await.kind, Kind::End);
    assert_eq!(node.hears().await.kind, Kind::Cancel);
    assert!(timeout(WAIT, node.inlet.next()).await.expect("it stays open").unwrap().is_none());
}
