//! Planned closes, replicas that are brought up, and what becomes of them after the seal.

use cairn_proto::frames::Transport;
use cairn_proto::v1;
use cairn_proto::v1::report_work_request::Outcome;
use cairn_proto::v1::work::Work;

use super::cluster::{TestCluster, kind, read, tail_length};
use super::meta::stamped;

over_each_transport!(
    a_planned_close_seals_at_the_last_append_without_a_fence,
    a_chunk_without_appends_is_closed_too,
    a_full_chunk_rolls_by_itself,
    a_node_that_stops_closes_its_chunks,
    extend_brings_a_node_that_has_nothing_to_the_decided_length,
    who_is_no_holder_drops_its_replica_and_says_so,
    a_late_notice_does_not_drop_a_replica_that_counts,
    a_copy_makes_another_holder,
    a_leader_that_forgot_a_node_gets_it_registered_again,
);

async fn close(cluster: &TestCluster, chunk: u64) -> v1::Chunk {
    let request = stamped(v1::CloseRequest { chunk, go_on: false });
    let reply = cluster.nodes[0].client().await.close(request).await.unwrap();
    reply.into_inner().chunk.unwrap()
}

async fn a_planned_close_seals_at_the_last_append_without_a_fence(transport: Transport) {
    let cluster = TestCluster::start_over(transport, 3).await;
    let chunk = cluster.open_chunk(3);
    let mut writer = cluster.writer(chunk).await;
    assert_eq!(writer.append(1, b"one").await, Ok(0));
    assert_eq!(writer.append(2, b"two").await, Ok(3));
    let sealed = close(&cluster, chunk).await;
    assert_eq!((sealed.state(), sealed.length, sealed.epoch), (v1::ChunkState::Sealed, 6, 1));
    assert_eq!(sealed.marks, [v1::WriterMark { writer: 77, sequence: 2, offset: 1003 }]);
    assert!(cluster.meta.state().seals.is_empty());
    assert_eq!(writer.refused(3, b"three").await, "ChunkFenced");
    assert_eq!(kind(tail_length(&cluster.nodes[0], chunk).await.unwrap_err()), "ChunkFenced");
    // Asked again it answers the same.
    assert_eq!(close(&cluster, chunk).await, sealed);
}

async fn a_chunk_without_appends_is_closed_too(transport: Transport) {
    let cluster = TestCluster::start_over(transport, 1).await;
    let chunk = cluster.open_chunk(1);
    let sealed = close(&cluster, chunk).await;
    assert_eq!((sealed.state(), sealed.length), (v1::ChunkState::Sealed, 0));
}

async fn a_full_chunk_rolls_by_itself(transport: Transport) {
    let cluster = TestCluster::start_over(transport, 1).await;
    let chunk = cluster.open_chunk(1);
    let mut writer = cluster.writer(chunk).await;
    let data = vec![7; 1 << 20];
    for n in 0..5 {
        assert_eq!(writer.append(n + 1, &data).await, Ok(n << 20));
    }
    let sealed = close(&cluster, chunk).await;
    assert_eq!(sealed.length, 5 << 20);
    assert_eq!(read(&cluster.nodes[0], chunk, 0, 5 << 20, 5 << 20).await.unwrap().len(), 5 << 20);
}

async fn a_node_that_stops_closes_its_chunks(transport: Transport) {
    let mut cluster = TestCluster::start_over(transport, 2).await;
    let chunk = cluster.open_chunk(2);
    let mut writer = cluster.writer(chunk).await;
    assert_eq!(writer.append(1, b"one").await, Ok(0));
    cluster.nodes.remove(0).stop().await;
    let sealed = cluster.meta.chunk(chunk);
    assert_eq!((sealed.state(), sealed.length), (v1::ChunkState::Sealed, 3));
    assert_eq!(cluster.meta.state().planned.len(), 1);
}

async fn extend_brings_a_node_that_has_nothing_to_the_decided_length(transport: Transport) {
    let cluster = TestCluster::start_over(transport, 3).await;
    let chunk = cluster.open_chunk(2);
    let mut writer = cluster.writer(chunk).await;
    for n in 0..300 {
        writer.send(writer.request(n + 1, &[n as u8; 2000])).await;
    }
    for _ in 0..300 {
        writer.reply().await;
    }
    let record = cluster.meta.chunk(chunk);
    let mut answers = Vec::new();
    for replica in &record.replicas {
        answers.push(cluster.meta.fence(replica, chunk, 2).await.unwrap());
    }
    let (length, chain) = (answers[0].length, answers[0].chain);
    assert_eq!(length, 600_000);
    let request = v1::ExtendRequest {
        chunk,
        epoch: 2,
        length,
        chain,
        sources: record.replicas.clone(),
        record: Some(record),
        // As a leader of an older build asks: it knew of no second disk.
        node: 0,
    };
    let mut fresh = cluster.nodes[2].client().await;
    let reply = fresh.extend(stamped(request.clone())).await.unwrap().into_inner();
    assert_eq!((reply.length, reply.chain), (length, chain));
    // Again: nothing to do, the same answer. Another chain: refused.
    let reply = fresh.extend(stamped(request.clone())).await.unwrap().into_inner();
    assert_eq!((reply.length, reply.chain), (length, chain));
    let other = v1::ExtendRequest { chain: chain ^ 1, ..request };
    assert_eq!(kind(fresh.extend(stamped(other)).await.unwrap_err()), "Corrupt");
    let bytes = read(&cluster.nodes[2], chunk, 0, length, length).await.unwrap();
    assert!(bytes.chunks(2000).enumerate().all(|(n, piece)| piece.iter().all(|b| *b == n as u8)));
}

async fn who_is_no_holder_drops_its_replica_and_says_so(transport: Transport) {
    let cluster = TestCluster::start_over(transport, 2).await;
    let chunk = cluster.open_chunk(2);
    let mut writer = cluster.writer(chunk).await;
    assert_eq!(writer.append(1, b"one").await, Ok(0));
    let sealed = close(&cluster, chunk).await;
    let notice = |holder| {
        let (length, chain) = (sealed.length, sealed.chain);
        Work::Sealed(v1::SealedNotice { chunk, epoch: sealed.epoch, length, chain, holder })
    };
    cluster.meta.give(cluster.nodes[0].id, notice(true)).await;
    cluster.meta.give(cluster.nodes[1].id, notice(false)).await;
    for node in &cluster.nodes {
        let done = |r: &&v1::ReportWorkRequest| {
            r.node == node.id && r.outcome == Some(Outcome::SealedNoticeDone(chunk))
        };
        cluster.meta.wait(|state| state.reports.iter().find(done).cloned()).await;
    }
    assert_eq!(read(&cluster.nodes[0], chunk, 0, 3, 0).await.unwrap(), b"one");
    assert_eq!(kind(read(&cluster.nodes[1], chunk, 0, 3, 3).await.unwrap_err()), "NoSuchChunk");
}

async fn a_late_notice_does_not_drop_a_replica_that_counts(transport: Transport) {
    let cluster = TestCluster::start_over(transport, 2).await;
    let chunk = cluster.open_chunk(2);
    let mut writer = cluster.writer(chunk).await;
    assert_eq!(writer.append(1, b"one").await, Ok(0));
    let sealed = close(&cluster, chunk).await;
    let node = &cluster.nodes[1];
    for (times, holder) in [(1, true), (2, false)] {
        let (epoch, length, chain) = (sealed.epoch, sealed.length, sealed.chain);
        let notice = v1::SealedNotice { chunk, epoch, length, chain, holder };
        cluster.meta.give(node.id, Work::Sealed(notice)).await;
        let of_it = |r: &&v1::ReportWorkRequest| {
            r.node == node.id && r.outcome == Some(Outcome::SealedNoticeDone(chunk))
        };
        let done =
            |state: &super::meta::State| (state.reports.iter().filter(of_it).count() == times).then_some(());
        cluster.meta.wait(done).await;
    }
    assert_eq!(read(node, chunk, 0, 3, 0).await.unwrap(), b"one");
}

async fn a_copy_makes_another_holder(transport: Transport) {
    let cluster = TestCluster::start_over(transport, 2).await;
    let chunk = cluster.open_chunk(1);
    let mut writer = cluster.writer(chunk).await;
    assert_eq!(writer.append(1, b"one").await, Ok(0));
    let sealed = close(&cluster, chunk).await;
    let copy = v1::CopyReplica {
        chunk,
        length: sealed.length,
        chain: sealed.chain,
        sources: sealed.replicas.clone(),
        place: None,
        intent: 5,
    };
    cluster.meta.give(cluster.nodes[1].id, Work::Copy(copy)).await;
    let report = cluster.meta.wait(|state| state.reports.first().cloned()).await;
    assert_eq!((report.intent, report.outcome), (5, Some(Outcome::Copied(v1::Copied { chunk }))));
    assert_eq!(read(&cluster.nodes[1], chunk, 0, 3, 0).await.unwrap(), b"one");
}

async fn a_leader_that_forgot_a_node_gets_it_registered_again(transport: Transport) {
    let cluster = TestCluster::start_over(transport, 1).await;
    let forgotten = std::mem::take(&mut cluster.meta.state().nodes);
    let again = cluster.meta.wait(|state| state.nodes.first().cloned()).await;
    assert_eq!(again, forgotten[0]);
}
