//! Frames and hellos: bytes that stay, round trips, and what is no frame.

use bytes::{Bytes, BytesMut};
use cairn_types::{ClusterId, Incarnation, NodeId};
use proptest::prelude::*;

use super::*;
use crate::v1;

fn append(data: &[u8], sequence: u64) -> v1::AppendRequest {
    v1::AppendRequest {
        chunk: 7,
        generation: 5,
        writer: 77,
        sequence,
        expected_offset: None,
        data: Bytes::copy_from_slice(data),
        crc32c: crc32c::crc32c(data),
        capability: Bytes::new(),
        trace: 0,
    }
}

fn taken(bytes: &[u8]) -> Result<Result<Frame, usize>, FrameError> {
    parse(&mut BytesMut::from(bytes))
}

#[test]
fn the_bytes_of_a_frame_stay() {
    let bytes = encode(3, true, append(b"hello", 9));
    let expected = [
        14, 0, 0, 0, 5, 0, 0, 0, 1, 1, 0, 0, 3, 0, 0, 0, 154, 56, 107, 132, 90, 203, 161, 206, 8, 7, 16, 5,
        24, 77, 32, 9, 56, 204, 246, 198, 211, 9, 104, 101, 108, 108, 111,
    ];
    assert_eq!(bytes, expected);
    let frame = taken(&bytes).unwrap().unwrap();
    assert_eq!((frame.kind, frame.opens, frame.stream), (Kind::Append, true, 3));
    assert_eq!(frame.message::<v1::AppendRequest>().unwrap(), append(b"hello", 9));
}

#[test]
fn a_trace_id_is_nine_bytes_of_a_head_and_whoever_does_not_know_it_passes_over_it() {
    let trace = 0x0123_4567_89ab_cdef;
    let id = [0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01];
    let (without, of_append) = (append(b"hello", 9), v1::AppendRequest { trace, ..append(b"hello", 9) });
    let head = taken(&encode(3, true, of_append.clone())).unwrap().unwrap().head;
    let plain = taken(&encode(3, true, without.clone())).unwrap().unwrap().head;
    assert_eq!(head, [plain.as_ref(), [9 << 3 | 1].as_slice(), id.as_slice()].concat());
    let forward = v1::ReplicateRequest { trace, ..record(b"", false) };
    let head = taken(&encode(3, true, forward)).unwrap().unwrap().head;
    assert!(head.ends_with(&[[4 << 3 | 1].as_slice(), id.as_slice()].concat()), "{head:?}");
    let read = v1::ReadRequest { trace, ..v1::ReadRequest::default() };
    let head = taken(&encode(3, true, read)).unwrap().unwrap().head;
    assert_eq!(head, [[6 << 3 | 1].as_slice(), id.as_slice()].concat());
    // One of a later build: a field that this one does not know, of the same kind.
    let mut newer = taken(&encode(3, true, of_append.clone())).unwrap().unwrap();
    newer.head = [newer.head.as_ref(), [15 << 3 | 1].as_slice(), id.as_slice()].concat().into();
    assert_eq!(newer.message::<v1::AppendRequest>(), Ok(of_append));
    // One of an earlier build, which has none.
    let older = taken(&encode(3, true, without)).unwrap().unwrap();
    assert_eq!(older.message::<v1::AppendRequest>().unwrap().trace, 0);
}

#[test]
fn the_bytes_of_a_hello_and_a_welcome_stay() {
    let hello = Hello {
        version: 3,
        version_min: 2,
        kind: PeerKind::Client,
        cluster: ClusterId([0xc1; 16]),
        node: NodeId(4),
        incarnation: Incarnation(5),
    };
    let mut expected = vec![0xca, b'I', b'R', b'N', 3, 0, 2, 0, 1, 1, 0, 0];
    expected.extend([0xc1; 16]);
    expected.extend([4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
    let crc32c = crc32c::crc32c(&expected);
    expected.extend(crc32c.to_le_bytes());
    assert_eq!(hello.encode().as_slice(), expected);
    assert_eq!(Hello::decode(&hello.encode()), Ok(hello));

    let offer = Offer {
        node: NodeId(4),
        incarnation: Incarnation(5),
        boot_id: [6; 16],
        socket: "/var/lib/cairn/data/frames.sock".into(),
    };
    let welcome = Welcome { version: 3, offer: Ok(offer) };
    let mut expected = vec![0xca, b'I', b'R', b'N', 3, 0, 0, 31];
    expected.extend([4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([6; 16]);
    expected.extend(b"/var/lib/cairn/data/frames.sock");
    expected.resize(WELCOME_BYTES - 4, 0);
    let crc32c = crc32c::crc32c(&expected);
    expected.extend(crc32c.to_le_bytes());
    assert_eq!(welcome.encode().as_slice(), expected);
    assert_eq!(Welcome::decode(&welcome.encode()), Ok(welcome));
    for refusal in Refusal::ALL {
        let refused = Welcome { version: 3, offer: Err(refusal) };
        assert_eq!(Welcome::decode(&refused.encode()), Ok(refused));
    }
}

#[test]
fn a_hello_that_does_not_fit_is_refused_for_its_reason() {
    let (ours, node, incarnation) = (ClusterId([1; 16]), NodeId(4), Incarnation(5));
    let hello = Hello::new(PeerKind::Node, ours);
    let checked = |hello: Hello| hello.check(ours, node, incarnation);
    assert_eq!(checked(hello), Ok(hello.version));
    assert_eq!(checked(Hello { node, incarnation, ..hello }), Ok(hello.version));
    assert_eq!(checked(Hello { cluster: ClusterId([2; 16]), ..hello }), Err(Refusal::ForeignCluster));
    assert_eq!(checked(Hello { node: NodeId(3), ..hello }), Err(Refusal::OtherNode));
    assert_eq!(checked(Hello { incarnation: Incarnation(4), ..hello }), Err(Refusal::OtherNode));
    let newer = Hello { version: hello.version + 2, version_min: hello.version + 1, ..hello };
    assert_eq!(checked(newer), Err(Refusal::Version));
    let older = Hello { version: hello.version - 1, version_min: hello.version - 1, ..hello };
    assert_eq!(checked(older), Err(Refusal::Version));
    let newer_that_speaks_ours = Hello { version: hello.version + 1, ..hello };
    assert_eq!(checked(newer_that_speaks_ours), Ok(hello.version));
    let mut bytes = hello.encode();
    bytes[20] ^= 1;
    assert_eq!(Hello::decode(&bytes), Err(HelloError::Malformed));
    let mut bytes = hello.encode();
    bytes[..24].copy_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_eq!(Hello::decode(&bytes), Err(HelloError::Foreign));
}

#[test]
fn what_is_too_long_is_refused_before_it_is_waited_for() {
    let frame = |head: u32, body: u32, kind: u8, flags: u8| {
        let mut bytes = Vec::new();
        bytes.extend(head.to_le_bytes());
        bytes.extend(body.to_le_bytes());
        bytes.extend([kind, flags, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        taken(&bytes)
    };
    let most = (HEAD_BYTES_MAX as u32, BODY_BYTES_MAX as u32);
    assert_eq!(frame(most.0, most.1, 1, 1), Ok(Err(HEADER_BYTES + HEAD_BYTES_MAX + BODY_BYTES_MAX)));
    assert_eq!(frame(most.0 + 1, 0, 1, 1), Err(FrameError::HeadBytes(most.0 + 1)));
    assert_eq!(frame(u32::MAX, u32::MAX, 1, 1), Err(FrameError::HeadBytes(u32::MAX)));
    assert_eq!(frame(0, most.1 + 1, 1, 1), Err(FrameError::BodyBytes(most.1 + 1)));
    assert_eq!(frame(0, 0, 0, 0), Err(FrameError::Kind(0)));
    assert_eq!(frame(0, 0, 14, 0), Err(FrameError::Kind(14)));
    assert_eq!(frame(0, 0, 1, 2), Err(FrameError::Flags(2)));
}

#[test]
fn a_payload_where_there_is_no_place_for_one_is_refused() {
    let hint = v1::CommittedHint { chunk: 1, epoch: 1, committed: 9 };
    let message = Some(v1::replicate_request::Message::Committed(hint));
    let mut frame = taken(&encode(1, true, v1::ReplicateRequest { message, trace: 0 })).unwrap().unwrap();
    frame.body = Bytes::from_static(b"x");
    assert_eq!(frame.clone().message::<v1::ReplicateRequest>(), Err(FrameError::Body));
    assert_eq!(frame.message::<v1::AppendRequest>(), Err(FrameError::Kind(3)));
}

fn record(payload: &[u8], close: bool) -> v1::ReplicateRequest {
    let record = v1::ReplicaRecord {
        chunk: 1,
        epoch: 1,
        offset: 1 << 20,
        generation: 2,
        writer: 3,
        sequence: 4,
        payload_crc32c: crc32c::crc32c(payload),
        previous_chain: 5,
        chain: 6,
        committed: 7,
        payload: Bytes::copy_from_slice(payload),
        close,
    };
    v1::ReplicateRequest { message: Some(v1::replicate_request::Message::Record(record)), trace: 0 }
}

proptest! {
    #[test]
    fn what_is_written_is_read_however_it_is_cut(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 1..8),
        cut in 1usize..700,
    ) {
        let mut bytes = Vec::new();
        for (n, payload) in payloads.iter().enumerate() {
            bytes.extend(encode(n as u32, n % 2 == 0, append(payload, n as u64)));
            bytes.extend(encode(n as u32, false, record(payload, payload.is_empty())));
        }
        let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
        for part in bytes.chunks(cut) {
            buffer.extend_from_slice(part);
            while let Ok(frame) = parse(&mut buffer).unwrap() {
                found.push(frame);
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(found.len(), payloads.len() * 2);
        let mut found = found.into_iter();
        for (n, payload) in payloads.iter().enumerate() {
            let appended = found.next().unwrap();
            prop_assert_eq!((appended.stream, appended.opens), (n as u32, n % 2 == 0));
            prop_assert_eq!(appended.message::<v1::AppendRequest>().unwrap(), append(payload, n as u64));
            let replicated = found.next().unwrap().message::<v1::ReplicateRequest>().unwrap();
            prop_assert_eq!(replicated, record(payload, payload.is_empty()));
        }
    }

    #[test]
    fn a_flipped_bit_before_the_payload_is_seen(
        payload in prop::collection::vec(any::<u8>(), 1..200),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut bytes = encode(1, true, append(&payload, 1));
        let front = bytes.len() - payload.len();
        let at = at.index(front);
        bytes[at] ^= 1 << bit;
        prop_assert!(taken(&bytes).is_err());
    }

    #[test]
    fn random_bytes_are_no_frames_and_no_hellos(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        // Nothing panics; a header of random bytes that fits its checksum does not occur.
        match taken(&bytes) {
            Ok(whole) => prop_assert_eq!(whole, Err(HEADER_BYTES)),
            Err(error) => prop_assert_eq!(error, FrameError::HeaderChecksum),
        }
        if let Some(hello) = bytes.first_chunk::<HELLO_BYTES>() {
            prop_assert!(Hello::decode(hello).is_err());
        }
        if let Some(welcome) = bytes.first_chunk::<WELCOME_BYTES>() {
            prop_assert!(Welcome::decode(welcome).is_err());
        }
    }

    #[test]
    fn random_heads_are_messages_or_refused(kind in 1u8..=13, head in prop::collection::vec(any::<u8>(), 0..300)) {
        let kind = Kind::ALL[usize::from(kind) - 1];
        let frame = |body: &'static [u8]| Frame {
            kind,
            opens: false,
            stream: 1,
            head: Bytes::copy_from_slice(&head),
            body: Bytes::from_static(body),
        };
        // Nothing panics, and a payload never goes where it does not belong.
        let _ = frame(b"x").message::<v1::AppendRequest>();
        let _ = frame(b"x").message::<v1::ReadFrame>();
        let _ = frame(b"x").message::<v1::ReplicateRequest>();
        prop_assert!(frame(b"x").message::<v1::AppendReply>().is_err());
        prop_assert!(frame(b"x").message::<v1::ReplicateReply>().is_err());
        prop_assert!(frame(b"x").message::<v1::TailLengthReply>().is_err());
        let _ = frame(b"").message::<v1::ReadRequest>();
        let _ = frame(b"").message::<v1::ErrorDetail>();
    }
}
