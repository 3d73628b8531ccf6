//! Mounts: buckets that other clients fill and change, read as files; in SeaweedFS and in moto.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use cairn_sdk::types::{FileKind, FsError};
use cairn_sdk::{Client, ListingOptions, MountOptions, RenameMode};
use cairn_tests::cluster::{Cluster, ClusterOptions, UnderStore, eventually};
use cairn_tests::fault_proxy::{FaultProxy, When};
use cairn_tests::s3_server::{Bucket, S3Server};
use futures::{StreamExt, stream};

/// Keys that a filesystem finds odd, and must show all the same.
const ODD: [&str; 8] = [
    "odd/with space",
    "odd/plus+and%25percent",
    "odd/ümläut-日本語",
    "odd/quote'\"quote",
    "odd/semi;colon&amp=1?x",
    "odd/-leading-dash",
    "odd/...",
    "odd/trailing.",
];

fn pattern(key: &str, length: usize) -> Vec<u8> {
    let seed = key.bytes().fold(7_u32, |a, b| a.wrapping_mul(31).wrapping_add(u32::from(b)));
    (0..length as u32).map(|n| ((n.wrapping_mul(seed) ^ (n >> 8)) >> 3) as u8).collect()
}

struct Setup {
    cluster: Cluster,
    client: Client,
    /// What is mounted: not the cluster's own bucket.
    bucket: Bucket,
    s3: aws_sdk_s3::Client,
    _moto: Option<S3Server>,
}

impl Setup {
    async fn with(own: Bucket, bucket: Bucket, moto: Option<S3Server>) -> Self {
        let understore = UnderStore::bucket(&own, "cluster");
        let cluster =
            Cluster::start(ClusterOptions { understore, ..ClusterOptions::single() }).await.unwrap();
        let client = cluster.client().await.unwrap();
        let s3 = bucket.client();
        Self { cluster, client, bucket, s3, _moto: moto }
    }

    async fn seaweed() -> Self {
        let (own, bucket) = (Bucket::shared().await.unwrap(), Bucket::shared().await.unwrap());
        Self::with(own, bucket, None).await
    }

    async fn moto() -> Self {
        let moto = S3Server::moto().await.unwrap();
        let bucket = moto.create_bucket("elsewhere").await.unwrap();
        Self::with(moto.bucket(), bucket, Some(moto)).await
    }

    async fn put(&self, key: &str, body: Vec<u8>) {
        let put = self.s3.put_object().bucket(self.bucket.name()).key(key).body(ByteStream::from(body));
        put.send().await.unwrap();
    }

    async fn delete(&self, key: &str) {
        self.s3.delete_object().bucket(self.bucket.name()).key(key).send().await.unwrap();
    }

    fn options(&self, endpoint: &str, prefix: &str, refresh: Duration) -> MountOptions {
        MountOptions {
            bucket: self.bucket.name().into(),
            prefix: prefix.into(),
            endpoint: endpoint.into(),
            region: self.bucket.region().into(),
            force_path_style: true,
            refresh,
            ..MountOptions::default()
        }
    }

    async fn mount(&self, path: &str, prefix: &str, refresh: Duration) {
        if let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
            self.client.mkdir_all(parent, 0o755).await.unwrap();
        }
        let options = self.options(self.bucket.endpoint(), prefix, refresh);
        self.client.mount_add(path, options).await.unwrap();
    }
}

async fn list(client: &Client, path: &str) -> BTreeMap<String, (FileKind, u64)> {
    let mut listing = client.list(path, ListingOptions::default());
    let mut found = BTreeMap::new();
    while let Some(entry) = listing.next().await.unwrap() {
        found.insert(entry.name.to_string(), (entry.inode.kind, entry.inode.size));
    }
    found
}

async fn content(client: &Client, path: &str) -> Result<Vec<u8>, cairn_sdk::Error> {
    let file = client.open(path).await?;
    let length = usize::try_from(file.length()).unwrap();
    Ok(file.read_at(0, length).await?.to_vec())
}

/// 2,500 keys: a flat directory of 2,300, a nested part, odd names.
fn keys() -> Vec<(String, usize)> {
    let mut keys: Vec<(String, usize)> = (0..2300).map(|n| (format!("flat/n{n:05}"), n % 97)).collect();
    for a in 0..4 {
        for b in 0..4 {
            keys.extend((0..12).map(|c| (format!("deep/a{a}/b{b}/c{c}/leaf"), 10 + c)));
        }
    }
    keys.extend(ODD.iter().map(|k| ((*k).to_owned(), 20)));
    keys
}

async fn objects_are_files(setup: Setup) {
    let keys = keys();
    assert_eq!(keys.len(), 2500);
    let large = pattern("large", 6_000_001);
    setup.put("large.bin", large.clone()).await;
    stream::iter(&keys).for_each_concurrent(64, |(key, length)| setup.put(key, pattern(key, *length))).await;
    setup.mount("/mnt/all", "", Duration::from_secs(3600)).await;
    let client = &setup.client;
    let top = list(client, "/mnt/all").await;
    assert_eq!(top.keys().collect::<Vec<_>>(), ["deep", "flat", "large.bin", "odd"]);
    assert_eq!(top["large.bin"], (FileKind::File, 6_000_001));
    assert_eq!(top["deep"].0, FileKind::Directory);

    let flat = list(client, "/mnt/all/flat").await;
    let wanted: BTreeMap<_, _> = (0..2300).map(|n| (format!("n{n:05}"), (FileKind::File, n % 97))).collect();
    assert!(flat == wanted, "{} of 2300 listed", flat.len());
    let deep: BTreeSet<String> = list(client, "/mnt/all/deep/a3/b2").await.into_keys().collect();
    assert_eq!(deep.len(), 12);
    // A path is found without its directories having been listed before.
    assert_eq!(
        content(client, "/mnt/all/deep/a1/b1/c7/leaf").await.unwrap(),
        pattern("deep/a1/b1/c7/leaf", 17)
    );
    assert_eq!(list(client, "/mnt/all/odd").await.len(), ODD.len());
    for key in ODD {
        assert_eq!(content(client, &format!("/mnt/all/{key}")).await.unwrap(), pattern(key, 20), "{key}");
    }
    for (key, length) in keys.iter().step_by(191) {
        let path = format!("/mnt/all/{key}");
        assert_eq!(client.stat(&path).await.unwrap().size, *length as u64, "{key}");
        assert_eq!(content(client, &path).await.unwrap(), pattern(key, *length), "{key}");
    }
    let file = client.open("/mnt/all/large.bin").await.unwrap();
    for (offset, length) in
        [(0, 10), (1_048_570, 20), (3_000_000, 2_500_000), (5_999_990, 100), (7_000_000, 1)]
    {
        let wanted = &large[offset.min(large.len())..(offset + length).min(large.len())];
        assert!(file.read_at(offset as u64, length).await.unwrap() == wanted, "{offset}+{length}");
    }
    let missing = client.stat("/mnt/all/flat/none").await.unwrap_err();
    assert_eq!(missing.fs(), Some(&FsError::NotFound));

    nothing_can_be_written(client).await;
    // The prefix is a border: another mount sees only what lies below it.
    setup.mount("/part", "deep/a1", Duration::from_secs(60)).await;
    let part: Vec<String> = list(client, "/part").await.into_keys().collect();
    assert_eq!(part, ["b0", "b1", "b2", "b3"]);
    let mounts = client.mounts().await.unwrap();
    let shown: Vec<_> = mounts.iter().map(|m| String::from_utf8_lossy(&m.path).into_owned()).collect();
    assert_eq!(shown, ["/mnt/all", "/part"]);
    assert!(mounts.iter().all(|m| m.read_only && m.options.bucket == setup.bucket.name()));
    client.mount_remove("/part").await.unwrap();
    let gone = client.mount_remove("/part").await.unwrap_err();
    assert_eq!(gone.fs(), Some(&FsError::NoSuchMount), "{gone}");
    assert_eq!(client.mounts().await.unwrap().len(), 1);
    // The bucket is as it was, for any S3 client.
    let (s3, bucket) = (&setup.s3, setup.bucket.name());
    let object = s3.get_object().bucket(bucket).key("large.bin").send().await.unwrap();
    assert!(object.body.collect().await.unwrap().to_vec() == large);
    let mut pages = s3.list_objects_v2().bucket(bucket).into_paginator().send();
    let mut count = 0;
    while let Some(page) = pages.next().await {
        count += page.unwrap().contents().len();
    }
    assert_eq!(count, 2501);
}

async fn nothing_can_be_written(client: &Client) {
    let refused = |outcome: Result<(), cairn_sdk::Error>, what: &str| match outcome {
        Err(error) => assert!(matches!(error.fs(), Some(FsError::ReadOnlyMount { .. })), "{what}: {error}"),
        Ok(()) => panic!("{what} was allowed"),
    };
    refused(client.put("/mnt/all/new", 0o644, b"x").await.map(drop), "put");
    refused(client.put("/mnt/all/large.bin", 0o644, b"x").await.map(drop), "replace");
    refused(client.mkdir("/mnt/all/dir", 0o755).await.map(drop), "mkdir");
    refused(client.unlink("/mnt/all/large.bin").await, "unlink");
    refused(client.rename("/mnt/all/large.bin", "/mnt/all/x", RenameMode::Replace).await, "rename");
    refused(client.symlink("x", "/mnt/all/link").await.map(drop), "symlink");
    let appended = match client.open_append("/mnt/all/large.bin").await {
        Ok(appender) => appender.append(&b"x"[..]).await.map(drop),
        Err(error) => Err(error),
    };
    refused(appended, "append");
    let out = client.rename("/mnt/all/large.bin", "/x", RenameMode::Replace).await.unwrap_err();
    let known = matches!(out.fs(), Some(FsError::CrossMount | FsError::ReadOnlyMount { .. }));
    assert!(known, "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_in_seaweedfs_are_files() {
    objects_are_files(Setup::seaweed().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_in_moto_are_files() {
    objects_are_files(Setup::moto().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_behind_our_back_are_seen_and_never_mixed() {
    let setup = Setup::seaweed().await;
    let (old, new) = (pattern("old", 5_000_000), pattern("new", 5_000_000));
    setup.put("file", old.clone()).await;
    setup.put("goes", b"x".to_vec()).await;
    setup.mount("/m", "", Duration::from_secs(1)).await;
    let client = &setup.client;
    let file = client.open("/m/file").await.unwrap();
    assert!(file.read_at(0, 1000).await.unwrap() == old[..1000]);
    setup.put("file", new.clone()).await;
    setup.put("comes", b"yy".to_vec()).await;
    setup.delete("goes").await;
    // The handle knows the old object: what it reads is the old one's (cached), or an error, never
    // the new one's bytes.
    for offset in (0..5_000_000).step_by(900_000) {
        match file.read_at(offset as u64, 100_000).await {
            Ok(bytes) => assert!(bytes == old[offset..offset + bytes.len()], "mixed at {offset}"),
            Err(error) => println!("{offset}: {error}"),
        }
    }
    let seen = || async {
        let names = list(client, "/m").await;
        (names.contains_key("comes") && !names.contains_key("goes")).then_some(())
    };
    eventually("the changes to be listed", Duration::from_secs(60), seen).await.unwrap();
    let whole = || async { (content(client, "/m/file").await.ok()? == new).then_some(()) };
    eventually("the new content", Duration::from_secs(60), whole).await.unwrap();
    assert_eq!(client.stat("/m/goes").await.unwrap_err().fs(), Some(&FsError::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_object_and_prefix_shows_both() {
    // SeaweedFS keeps keys as paths: only moto has a key and a prefix of one name.
    let setup = Setup::moto().await;
    setup.put("both", b"the object".to_vec()).await;
    setup.put("both/below", b"below".to_vec()).await;
    setup.put("empty//name", b"cannot be a file".to_vec()).await;
    setup.mount("/m", "", Duration::from_secs(60)).await;
    let top = list(&setup.client, "/m").await;
    assert_eq!(top["both"].0, FileKind::Directory);
    assert_eq!(top["both.cairn-object"], (FileKind::File, 10));
    assert_eq!(content(&setup.client, "/m/both.cairn-object").await.unwrap(), b"the object");
    assert_eq!(content(&setup.client, "/m/both/below").await.unwrap(), b"below");
    // A key that is no path is left out; all else is there.
    assert_eq!(list(&setup.client, "/m/empty").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_read_once_and_then_from_the_cache() {
    let setup = Setup::seaweed().await;
    let proxy = FaultProxy::start(setup.bucket.endpoint()).await.unwrap();
    let body = pattern("cached", 3_000_000);
    setup.put("file", body.clone()).await;
    let options = setup.options(&proxy.endpoint(), "", Duration::from_secs(3600));
    setup.client.mount_add("/m", options).await.unwrap();
    assert!(content(&setup.client, "/m/file").await.unwrap() == body);
    let gets = || proxy.requests_matching(&When::method("GET").path_contains("/file"));
    let first = gets();
    assert!(first > 0);
    assert!(content(&setup.client, "/m/file").await.unwrap() == body);
    assert_eq!(gets(), first, "the second read asked S3 again");
    let conditional = proxy.requests().iter().filter(|r| r.method == "GET").count();
    assert!(conditional >= first);
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_survive_a_restart() {
    let mut setup = Setup::seaweed().await;
    setup.put("dir/file", b"content".to_vec()).await;
    setup.mount("/m", "dir/", Duration::from_secs(3600)).await;
    assert_eq!(content(&setup.client, "/m/file").await.unwrap(), b"content");
    setup.cluster.kill_all();
    setup.cluster.start_all().await.unwrap();
    assert_eq!(setup.client.mounts().await.unwrap().len(), 1);
    assert_eq!(content(&setup.client, "/m/file").await.unwrap(), b"content");
}
