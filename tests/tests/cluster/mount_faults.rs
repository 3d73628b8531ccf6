//! A mounted bucket whose endpoint fails in every way it can, while files below the mount change.

use std::time::Duration;

use cairn_sdk::RenameMode;
use cairn_tests::cluster::ClusterOptions;
use cairn_tests::fault_proxy::{Fault, FaultProxy, When};

use crate::mount_bed::{Bed, Contents, MOUNT, differ, pattern, small};

/// What is done to the files while the endpoint fails: answers what there must be in the end.
async fn change_files(bed: &Bed) -> Contents {
    let mut wanted = Contents::new();
    let large = pattern("large", 11_000_000);
    bed.write("large", &large).await;
    bed.write("renamed", b"renamed").await;
    for n in 0..30 {
        let (path, body) = (format!("d/f{n:02}"), pattern("small", 1_000 + n));
        if n == 0 {
            bed.client.mkdir(format!("{MOUNT}/d"), 0o755).await.unwrap();
        }
        bed.write(&path, &body).await;
        wanted.insert(format!("e/f{n:02}"), body);
    }
    bed.client.rename(format!("{MOUNT}/d"), format!("{MOUNT}/e"), RenameMode::Replace).await.unwrap();
    bed.client.rename(format!("{MOUNT}/renamed"), format!("{MOUNT}/to"), RenameMode::Replace).await.unwrap();
    bed.write("there", b"replaced").await;
    bed.client.unlink(format!("{MOUNT}/goes")).await.unwrap();
    bed.client.rename(format!("{MOUNT}/moves"), format!("{MOUNT}/moved"), RenameMode::Replace).await.unwrap();
    wanted.insert("large".into(), large);
    wanted.insert("to".into(), b"renamed".to_vec());
    wanted.insert("there".into(), b"replaced".to_vec());
    wanted.insert("moved".into(), pattern("moves", 7_000_000));
    wanted
}

/// Changes files while `trouble` is on; when it is over, the bucket is what it is to be, with no conflict: nobody
/// else wrote.
async fn survives(trouble: impl FnOnce(&FaultProxy)) {
    let bed = Bed::seaweed(small()).await;
    bed.put("there", b"was there".to_vec()).await;
    bed.put("goes", b"goes".to_vec()).await;
    bed.put("moves", pattern("moves", 7_000_000)).await;
    bed.mount().await;
    assert_eq!(bed.files().await.unwrap().len(), 3);
    trouble(&bed.proxy);
    let wanted = change_files(&bed).await;
    let found = bed.equal().await;
    assert!(found == wanted, "{}", differ(&wanted, &found));
    assert!(bed.proxy.counts().faulted > 0, "nothing went wrong");
    assert_eq!(
        bed.figures().await.conflicts,
        0,
        "an answer that was lost is taken for somebody else's write"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_writes_that_are_lost_are_asked_about() {
    survives(|proxy| {
        proxy.inject(When::method("PUT").times(25), Fault::LoseAnswer);
        proxy.inject(When::method("POST").times(6), Fault::LoseAnswer);
        proxy.inject(When::method("DELETE").times(10), Fault::LoseAnswer);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_busy_is_asked_again() {
    survives(|proxy| {
        proxy.inject(When::method("PUT").times(30), Fault::SlowDown);
        proxy.inject(When::method("POST").times(5), Fault::InternalError);
        proxy.inject(When::method("HEAD").times(20), Fault::SlowDown);
        proxy.inject(When::method("DELETE").times(20), Fault::SlowDown);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_that_are_slow_and_cut_are_made_again() {
    survives(|proxy| {
        proxy.inject(When::method("PUT").times(40), Fault::Latency(Duration::from_millis(100)));
        proxy.inject(When::method("PUT").skip(2).times(8), Fault::TruncateRequest { after_bytes: 500 });
        proxy.inject(When::method("GET").times(6), Fault::TruncateAnswer { after_bytes: 700 });
        proxy.inject(When::method("PUT").skip(20).times(8), Fault::Cut);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_nodes_that_die_in_the_middle_are_replaced() {
    // Three of each: who had the work dies, again and again, while slow writes are under way.
    let mut bed = Bed::seaweed(ClusterOptions::default()).await;
    bed.put("there", b"was there".to_vec()).await;
    bed.put("goes", b"goes".to_vec()).await;
    bed.put("moves", pattern("moves", 7_000_000)).await;
    bed.mount().await;
    assert_eq!(bed.files().await.unwrap().len(), 3);
    bed.proxy.inject(When::method("PUT").times(60), Fault::Latency(Duration::from_millis(300)));
    bed.proxy.inject(When::method("PUT").skip(5).times(10), Fault::LoseAnswer);
    let wanted = change_files(&bed).await;
    for node in 0..3 {
        let before = bed.proxy.requests_with_method("PUT");
        let busy = || async { (bed.proxy.requests_with_method("PUT") > before).then_some(()) };
        let busy = cairn_tests::cluster::eventually("a write", Duration::from_secs(20), busy).await;
        // It may all be done by now.
        if busy.is_err() {
            break;
        }
        bed.cluster.datas[node].kill();
        bed.cluster.datas[node].start().unwrap();
    }
    bed.cluster.metas[0].kill();
    bed.cluster.metas[0].start().unwrap();
    let found = bed.equal().await;
    assert!(found == wanted, "{}", differ(&wanted, &found));
    assert_eq!(bed.figures().await.conflicts, 0);
}
