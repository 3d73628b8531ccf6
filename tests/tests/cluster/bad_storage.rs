//! Storage that fails: S3 that cannot be reached, has no such bucket or refuses the credentials;
//! records that rot; disks that are full or wiped.

use std::path::Path;
use std::time::Duration;

use cairn_proto::ServiceError;
use cairn_proto::v1::EvictRequest;
use cairn_sdk::types::{FsError, Policy};
use cairn_sdk::{Cause, Client, ConnectOptions, ErrorKind, ListingOptions, MountOptions};
use cairn_tests::cluster::{
    Cluster, ClusterError, ClusterOptions, Pump, UnderStore, Wire, eventually, verify,
};
use cairn_tests::s3_server::{Bucket, free_ports};

async fn content(client: &Client, path: &str) -> Result<Vec<u8>, cairn_sdk::Error> {
    let file = client.open(path).await?;
    let length = usize::try_from(file.length()).unwrap();
    Ok(file.read_at(0, length).await?.to_vec())
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| ((n * 13) ^ (n >> 9) ^ 0x35) as u8).collect()
}

/// A cluster whose under-store does not work: files are written and read all the same, the status
/// tells what is wrong, `sync` fails in time. Answers what the status says, and all that the data node logged.
async fn works_without(endpoint: &str, bucket: &str, secret: &str) -> (String, String) {
    let understore = UnderStore::S3 {
        endpoint: endpoint.into(),
        url: format!("s3://{bucket}/x"),
        access_key: "cairn-test-access".into(),
        secret_key: secret.into(),
    };
    let policy = Policy { max_lag_ms: 1_000, ..Policy::single() };
    let options = ClusterOptions { understore, policy, ..ClusterOptions::single() };
    let cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.put("/file", 0o644, pattern(100_000)).await.unwrap();
    assert!(content(&client, "/file").await.unwrap() == pattern(100_000));
    let mut options = ConnectOptions::new(cluster.meta_addresses());
    options.retry_budget = Duration::from_secs(3);
    let impatient = Client::connect(options).await.unwrap();
    let refused = impatient.sync("/file").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    let told = || async {
        let status = client.status().await.ok()?;
        (!status.under_store_error.is_empty()).then_some(status.under_store_error)
    };
    let told =
        eventually("the status to tell of the under-store", Duration::from_secs(60), told).await.unwrap();
    let log = std::fs::read_to_string(cluster.datas[0].log_path()).unwrap();
    let meta = std::fs::read_to_string(cluster.metas[0].log_path()).unwrap();
    (told, log + &meta)
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_unreachable() {
    let address = format!("http://127.0.0.1:{}", free_ports(1).unwrap()[0]);
    let (told, _) = works_without(&address, "bucket", "secret").await;
    println!("{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bucket_missing() {
    let bucket = Bucket::shared().await.unwrap();
    let (told, _) = works_without(bucket.endpoint(), "no-such-bucket", bucket.secret_key()).await;
    assert!(told.contains("bucket") || told.contains("NoSuchBucket"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_wrong_and_not_told() {
    const SECRET: &str = "a-secret-that-must-not-be-shown-1234567890";
    let bucket = Bucket::shared().await.unwrap();
    let (told, log) = works_without(bucket.endpoint(), bucket.name(), SECRET).await;
    println!("{told}");
    assert!(!told.contains(SECRET) && !log.contains(SECRET), "the secret is in a message or a log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_whose_bucket_is_missing_or_away() {
    let bucket = Bucket::shared().await.unwrap();
    let understore = UnderStore::bucket(&bucket, "x");
    let cluster = Cluster::start(ClusterOptions { understore, ..ClusterOptions::single() }).await.unwrap();
    let client = cluster.client().await.unwrap();
    let mut options = ConnectOptions::new(cluster.meta_addresses());
    options.retry_budget = Duration::from_secs(4);
    let impatient = Client::connect(options).await.unwrap();
    let away = format!("http://127.0.0.1:{}", free_ports(1).unwrap()[0]);
    for (path, name, endpoint) in
        [("/missing", "no-such-bucket", bucket.endpoint()), ("/away", "bucket", away.as_str())]
    {
        let mount = MountOptions {
            bucket: name.into(),
            prefix: String::new(),
            endpoint: endpoint.into(),
            region: "us-east-1".into(),
            force_path_style: true,
            refresh: Duration::from_secs(60),
            ..MountOptions::default()
        };
        // Refused at once, or when the directory is first asked for; in words that say why.
        let outcome = match impatient.mount_add(path, mount).await {
            Err(error) => Err(error),
            Ok(_) => impatient.list(path, ListingOptions::default()).next().await.map(drop),
        };
        let refused = outcome.expect_err("an empty directory was shown for a bucket that is not there");
        println!("{path}: {refused} ({:?})", refused.kind());
    }
    // The rest of the namespace is as it was.
    client.put("/file", 0o644, b"x").await.unwrap();
    client.mkdir("/dir", 0o755).await.unwrap();
}

/// Flips one bit in every place of the data node's segments where `needle` stands.
fn rot(segments: &Path, needle: &[u8]) -> usize {
    use std::os::unix::fs::FileExt;
    let mut places = 0;
    for entry in std::fs::read_dir(segments).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let mut from = 0;
        while let Some(at) = bytes[from..].windows(needle.len()).position(|w| w == needle) {
            let place = from + at + needle.len() / 2;
            file.write_all_at(&[bytes[place] ^ 1], place as u64).unwrap();
            from += at + needle.len();
            places += 1;
        }
    }
    places
}

fn small() -> ClusterOptions {
    ClusterOptions { segment_mib: 4, capacity_mib: 64, ..ClusterOptions::default() }
}

/// Writes a file of which all three nodes have a copy: none is left out for being slow.
async fn put_on_all(cluster: &Cluster, body: &[u8]) {
    let writer = cluster.patient_client().await.unwrap();
    writer.put("/file", 0o644, body).await.unwrap();
    writer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn corrupt_record_is_answered_from_another_copy() {
    let cluster = Cluster::start(small().steady()).await.unwrap();
    let body = pattern(200_000);
    put_on_all(&cluster, &body).await;
    // One bit, on two of the three copies; whichever is asked first, the reader gets the third's.
    let needle = &body[50_000..50_032];
    for data in &cluster.datas[..2] {
        assert!(rot(&data.directory().join("segments"), needle) > 0, "the record is not in {}", data.name());
    }
    for _ in 0..3 {
        let client = cluster.client().await.unwrap();
        assert!(content(&client, "/file").await.unwrap() == body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn corrupt_record_on_every_copy_is_an_error_and_no_wrong_bytes() {
    // No scrub may repair one copy from the next while they are being made to rot.
    let options = ClusterOptions { data_toml: "scrub_mib_per_second = 0\n".to_owned(), ..small() }.steady();
    let cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    let body = pattern(200_000);
    put_on_all(&cluster, &body).await;
    let needle = &body[50_000..50_032];
    for data in &cluster.datas {
        assert!(rot(&data.directory().join("segments"), needle) > 0, "the record is not in {}", data.name());
    }
    let refused = content(&client, "/file").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
    let file = client.open("/file").await.unwrap();
    // The needle stands in the pattern more than once; here, in three blocks of 16 KiB, it does not.
    let (from, until) = (8 << 14, 11 << 14);
    assert!(body[from..until].windows(needle.len()).all(|w| w != needle));
    let rest = file.read_at(from as u64, until - from).await.unwrap();
    assert!(rest == body[from..until], "what is not damaged is read");
    let mut command = cluster.cli();
    command.args(["fs", "cat", "/file"]);
    let outcome = cairn_tests::cluster::run(command, b"", Duration::from_secs(60)).await.unwrap();
    assert_eq!(outcome.code, 4, "{}", outcome.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn corrupt_record_is_answered_from_s3() {
    let options = ClusterOptions {
        understore: UnderStore::Directory,
        policy: Policy::single(),
        datas: 1,
        metas: 1,
        ..small()
    };
    let cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    let body = pattern(200_000);
    client.put("/file", 0o644, &body).await.unwrap();
    client.sync("/file").await.unwrap();
    assert!(rot(&cluster.datas[0].directory().join("segments"), &body[70_000..70_032]) > 0);
    let read = || async { content(&client, "/file").await.ok().filter(|read| *read == body) };
    eventually("the copy in S3", Duration::from_secs(60), read).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rot_is_repaired_by_the_scrub_before_anybody_reads_and_told() {
    let data_toml = "scrub_mib_per_second = 64\nscrub_rest_seconds = 1\n".to_owned();
    let options = ClusterOptions { understore: UnderStore::Directory, data_toml, ..small() }.steady();
    let cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    let body = pattern(200_000);
    put_on_all(&cluster, &body).await;
    client.sync("/file").await.unwrap();
    let needle = &body[70_000..70_032];
    assert!(rot(&cluster.datas[1].directory().join("segments"), needle) > 0);
    let repaired = || async {
        let status = client.status().await.ok()?;
        let repaired: u64 = status.nodes.iter().map(|node| node.repaired_records).sum();
        let damaged: u64 = status.nodes.iter().map(|node| node.damaged_replicas).sum();
        (repaired > 0 && damaged == 0).then_some(repaired)
    };
    eventually("the record to be repaired", Duration::from_secs(60), repaired).await.unwrap();
    assert!(content(&client, "/file").await.unwrap() == body);
}

#[tokio::test(flavor = "multi_thread")]
async fn corrupt_record_is_found_at_a_restart_and_nothing_acknowledged_is_cut() {
    let mut cluster = Cluster::start(small().steady()).await.unwrap();
    let client = cluster.client().await.unwrap();
    let body = pattern(300_000);
    put_on_all(&cluster, &body).await;
    let mut pump = Pump::start(client.open_append("/log").await.unwrap(), 1, 8, 400);
    pump.advance(200).await;
    cluster.kill_all();
    // In the middle, far below what is known to be durable: damaged, not torn.
    assert!(rot(&cluster.datas[0].directory().join("segments"), &body[50_000..50_032]) > 0);
    cluster.start_all().await.unwrap();
    pump.advance(100).await;
    let (_, ledger) = pump.stop().await;
    assert!(ledger.errors.is_empty(), "{:?}", ledger.errors);
    assert!(content(&client, "/file").await.unwrap() == body);
    verify(&content(&client, "/log").await.unwrap(), &[&ledger]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_disk_comes_back_as_a_new_one() {
    let mut cluster = Cluster::start(small()).await.unwrap();
    let client = cluster.client().await.unwrap();
    let mut pump = Pump::start(client.open_append("/log").await.unwrap(), 1, 8, 400);
    pump.advance(100).await;
    cluster.datas[1].kill();
    std::fs::remove_dir_all(cluster.datas[1].directory()).unwrap();
    pump.advance(100).await;
    cluster.datas[1].start().unwrap();
    let four = || async {
        let status = client.status().await.ok()?;
        (status.nodes.iter().filter(|n| n.alive).count() == 3).then_some(status)
    };
    eventually("three live nodes", Duration::from_secs(30), four).await.unwrap();
    pump.advance(100).await;
    let (_, ledger) = pump.stop().await;
    assert!(ledger.errors.is_empty(), "{:?}", ledger.errors);
    verify(&content(&client, "/log").await.unwrap(), &[&ledger]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_full_is_refused_and_what_is_there_stays() {
    let policy = Policy { persist: cairn_sdk::types::Persist::Never, ..Policy::single() };
    let options = ClusterOptions { segment_mib: 4, capacity_mib: 32, policy, ..ClusterOptions::single() };
    let mut cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    let mut options = ConnectOptions::new(cluster.meta_addresses());
    options.retry_budget = Duration::from_secs(2);
    let impatient = Client::connect(options).await.unwrap();
    let mut written = 0;
    let refused = loop {
        assert!(written < 64, "64 MiB were written to a disk of 32");
        // So much must fit, however long it takes. After that a patient writer gets in a little more,
        // now and then: what failed attempts left behind is removed after a while.
        let writer = if written < 8 { &client } else { &impatient };
        match writer.put(format!("/file-{written}"), 0o644, pattern(1 << 20)).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    println!("after {written} MiB: {refused} ({:?}, errno {})", refused.kind(), refused.errno());
    // The leader found no node with room, or the last node that was tried says how full it is.
    let told = match refused.cause() {
        Cause::Fs(FsError::NoSpace) => true,
        Cause::Service(ServiceError::DiskFull { node, capacity_bytes, .. }) => {
            node.0 != 0 && *capacity_bytes > 8 << 20
        }
        _ => false,
    };
    assert!(told && refused.errno() == FsError::NoSpace.errno(), "{refused}");
    assert!(written >= 8, "only {written} MiB of 32 could be written");
    for n in 0..written {
        assert!(content(&client, &format!("/file-{n}")).await.unwrap() == pattern(1 << 20), "file {n}");
    }
    // A full disk still starts, and what is removed makes room.
    cluster.kill_all();
    cluster.start_all().await.unwrap();
    assert!(content(&client, "/file-0").await.unwrap() == pattern(1 << 20));
    for n in 0..written {
        client.unlink(format!("/file-{n}")).await.unwrap();
    }
    let room = || async { client.put("/again", 0o644, pattern(1 << 20)).await.ok() };
    eventually("room again", Duration::from_secs(60), room).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn evict_keeps_what_is_nowhere_else() {
    let cluster = Cluster::start(small()).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.put("/file", 0o644, pattern(500_000)).await.unwrap();
    let wire = Wire::new(&cluster, &client);
    for data in &cluster.datas {
        let mut node = wire.data(data.address()).await.unwrap();
        node.evict(wire.request(EvictRequest { chunk: 0 })).await.map_err(ClusterError::from).unwrap();
    }
    assert!(content(&client, "/file").await.unwrap() == pattern(500_000));
}
