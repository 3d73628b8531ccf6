//! A clock that is far off: S3 refuses what is signed by it, the status says so, nothing is lost.

use std::time::Duration;

use cairn_sdk::types::Policy;
use cairn_sdk::{Client, ConnectOptions, ErrorKind};
use cairn_tests::cluster::{Cluster, ClusterOptions, UnderStore, eventually, run};
use cairn_tests::fault_proxy::{Fault, FaultProxy, When};
use cairn_tests::s3_server::Bucket;

const SKEWED: &str = "RequestTimeTooSkewed";

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_far_off_is_told_and_loses_nothing() {
    let bucket = Bucket::shared().await.unwrap();
    let proxy = FaultProxy::start(bucket.endpoint()).await.unwrap();
    // What S3 says to a signature that is more than 15 minutes off.
    proxy.inject(When::any(), Fault::Denied { code: SKEWED });
    let understore = UnderStore::bucket_at(&proxy.endpoint(), &bucket, "x");
    let policy = Policy { max_lag_ms: 1_000, ..Policy::single() };
    let options = ClusterOptions { understore, policy, ..ClusterOptions::single() };
    let cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    let body: Vec<u8> = (0..100_000_usize).map(|n| (n * 7) as u8).collect();
    client.put("/file", 0o644, &body).await.unwrap();

    let told = || async {
        let status = client.status().await.ok()?;
        status.under_store_error.contains(SKEWED).then_some(status.under_store_error)
    };
    let told = eventually("the status to name the skew", Duration::from_secs(60), told).await.unwrap();
    assert!(told.contains("credentials"), "{told}");
    let mut options = ConnectOptions::new(cluster.meta_addresses());
    options.retry_budget = Duration::from_secs(3);
    let impatient = Client::connect(options).await.unwrap();
    let refused = impatient.sync("/file").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    let mut command = cluster.cli();
    command.args(["--retry-seconds", "2", "fs", "sync", "/file"]);
    let outcome = run(command, b"", Duration::from_secs(60)).await.unwrap();
    assert_eq!(outcome.code, 3, "{}", outcome.stderr);
    // What is written is there all the same.
    let file = client.open("/file").await.unwrap();
    assert!(file.read_at(0, body.len()).await.unwrap() == body[..]);

    // The clock is set: it goes up by itself.
    proxy.heal();
    let gone = || async {
        let status = client.status().await.ok()?;
        (status.lag_bytes == 0 && status.under_store_error.is_empty()).then_some(())
    };
    eventually("no lag and no complaint", Duration::from_secs(60), gone).await.unwrap();
}
