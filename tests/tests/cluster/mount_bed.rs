//! [`Bed`]: a cluster with a writable mount of a bucket, behind a fault proxy, and another client of that bucket.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use cairn_sdk::{Client, MountFigures, MountOptions, MountRules, MountStatus, TreeOptions};
use cairn_tests::cluster::{Cluster, ClusterOptions, UnderStore, eventually};
use cairn_tests::fault_proxy::FaultProxy;
use cairn_tests::s3_server::{Bucket, S3Server};
use futures::{StreamExt, TryStreamExt, stream};

/// How long the bucket may take to become what the namespace says, on a slow machine.
pub const SETTLED_WITHIN: Duration = Duration::from_secs(240);
/// Where the mount is.
pub const MOUNT: &str = "/m";
/// Where its objects are.
pub const PREFIX: &str = "data/";

/// Contents by path, or key, below the mount.
pub type Contents = BTreeMap<String, Vec<u8>>;

pub struct Bed {
    pub cluster: Cluster,
    pub client: Client,
    /// What is mounted: not the cluster's own bucket.
    pub bucket: Bucket,
    /// Another client, past the proxy.
    pub s3: aws_sdk_s3::Client,
    /// Between the data nodes and the mounted bucket.
    pub proxy: FaultProxy,
    _moto: Option<S3Server>,
}

/// What servers there are: as few as a test needs.
pub fn small() -> ClusterOptions {
    ClusterOptions::single()
}

impl Bed {
    /// In SeaweedFS.
    pub async fn seaweed(options: ClusterOptions) -> Self {
        let (own, bucket) = (Bucket::shared().await.unwrap(), Bucket::shared().await.unwrap());
        Self::with(options, own, bucket, None).await
    }

    /// In moto, where keys are no paths and listings are in the order of bytes.
    pub async fn moto(options: ClusterOptions) -> Self {
        let moto = S3Server::moto().await.unwrap();
        let bucket = moto.create_bucket("elsewhere").await.unwrap();
        Self::with(options, moto.bucket(), bucket, Some(moto)).await
    }

    async fn with(options: ClusterOptions, own: Bucket, bucket: Bucket, moto: Option<S3Server>) -> Self {
        let proxy = FaultProxy::start(bucket.endpoint()).await.unwrap();
        let understore = UnderStore::bucket(&own, "cluster");
        let cluster = Cluster::start(ClusterOptions { understore, ..options }).await.unwrap();
        let client = cluster.patient_client().await.unwrap();
        let s3 = bucket.client();
        Self { cluster, client, bucket, s3, proxy, _moto: moto }
    }

    /// Mounts the prefix at [`MOUNT`], to be written to; directories are read again by `mount_sync` alone.
    pub async fn mount(&self) -> MountStatus {
        self.mount_with(|_| ()).await
    }

    /// As [`mount`](Self::mount), but for what is changed. An endpoint that lacks a condition has this client
    /// as its sole writer.
    pub async fn mount_with(&self, change: impl FnOnce(&mut MountOptions)) -> MountStatus {
        let mut options = MountOptions {
            bucket: self.bucket.name().into(),
            prefix: PREFIX.into(),
            endpoint: self.proxy.endpoint(),
            region: self.bucket.region().into(),
            force_path_style: true,
            refresh: Duration::ZERO,
            rules: MountRules { object_lag: Duration::from_secs(5), ..MountRules::writable() },
            ..MountOptions::default()
        };
        change(&mut options);
        self.client.mount_add(MOUNT, options.clone()).await.unwrap();
        let mount = self.client.mount_ready(MOUNT).await.unwrap();
        if !mount.read_only || !options.rules.writable {
            return mount;
        }
        println!("not writable as it is: {} ({:?})", mount.read_only_because, mount.abilities);
        let rules = MountRules { sole_writer: true, ..options.rules };
        self.client.mount_set(MOUNT, options.refresh, &options.access, rules).await.unwrap();
        let mount = self.client.mount_ready(MOUNT).await.unwrap();
        assert!(!mount.read_only, "{}", mount.read_only_because);
        mount
    }

    /// As another client of the bucket does.
    pub async fn put(&self, key: &str, body: impl Into<Vec<u8>>) {
        let body = ByteStream::from(body.into());
        let put = self.s3.put_object().bucket(self.bucket.name()).key(format!("{PREFIX}{key}")).body(body);
        put.send().await.unwrap();
    }

    pub async fn delete(&self, key: &str) {
        let delete = self.s3.delete_object().bucket(self.bucket.name()).key(format!("{PREFIX}{key}"));
        delete.send().await.unwrap();
    }

    /// An object's bytes; `None` when there is none.
    pub async fn get(&self, key: &str) -> Option<Vec<u8>> {
        let get = self.s3.get_object().bucket(self.bucket.name()).key(format!("{PREFIX}{key}"));
        match get.send().await {
            Ok(object) => Some(object.body.collect().await.unwrap().to_vec()),
            Err(error) => {
                assert!(error.as_service_error().is_some_and(|e| e.is_no_such_key()), "{key}: {error:?}");
                None
            }
        }
    }

    /// Keys of the bucket below the prefix, without directories' markers.
    pub async fn keys(&self) -> Vec<String> {
        let listed = self.s3.list_objects_v2().bucket(self.bucket.name()).prefix(PREFIX);
        let mut pages = listed.into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.unwrap();
            let found = page.contents().iter().filter_map(|object| object.key()?.strip_prefix(PREFIX));
            keys.extend(found.filter(|key| !key.is_empty() && !key.ends_with('/')).map(str::to_owned));
        }
        keys.sort();
        keys
    }

    /// All that the bucket holds below the prefix. An object that goes away meanwhile is left out.
    pub async fn objects(&self) -> Contents {
        let gets = self.keys().await.into_iter().map(|key| async move {
            let bytes = self.get(&key).await?;
            Some((key, bytes))
        });
        stream::iter(gets).buffer_unordered(32).filter_map(async |got| got).collect().await
    }

    /// Paths of the files below the mount.
    pub async fn paths(&self) -> Result<Vec<String>, cairn_sdk::Error> {
        let mut listing = self.client.list_tree(MOUNT, TreeOptions::default());
        let mut paths = Vec::new();
        while let Some(entry) = listing.next().await? {
            if !entry.is_dir() {
                paths.push(String::from_utf8(entry.path).unwrap());
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// A file's bytes, by its path below the mount.
    pub async fn read(&self, path: &str) -> Result<Vec<u8>, cairn_sdk::Error> {
        let file = self.client.open(format!("{MOUNT}/{path}")).await?;
        let length = usize::try_from(file.length()).unwrap();
        Ok(file.read_at(0, length).await?.to_vec())
    }

    /// All that the namespace has below the mount.
    pub async fn files(&self) -> Result<Contents, cairn_sdk::Error> {
        let paths = self.paths().await?;
        let reads = paths.into_iter().map(|path| async move {
            let bytes = self.read(&path).await?;
            Ok((path, bytes))
        });
        stream::iter(reads).buffer_unordered(32).try_collect().await
    }

    pub async fn figures(&self) -> MountFigures {
        self.client.mount_status(MOUNT).await.unwrap().figures.unwrap()
    }

    /// Waits until nothing is pending.
    pub async fn settled(&self) {
        let look = || async {
            let figures = self.client.mount_status(MOUNT).await.ok()?.figures?;
            figures.is_settled().then_some(())
        };
        if let Err(error) = eventually("the mount to be settled", SETTLED_WITHIN, look).await {
            panic!("{error}: {:?}", self.figures().await);
        }
    }

    /// Waits until nothing is pending, then compares all bytes of both sides: answers them.
    pub async fn equal(&self) -> Contents {
        self.settled().await;
        let mut last = (Contents::new(), Contents::new());
        for _ in 0..20 {
            let (objects, files) = (self.objects().await, self.files().await.unwrap());
            if objects == files {
                return files;
            }
            last = (objects, files);
            // What was settled is not any more: something came from outside.
            self.settled().await;
        }
        let (objects, files) = last;
        panic!("{}\n{:?}", differ(&objects, &files), self.figures().await);
    }

    /// The contents of the files with these paths, which are all that there is on both sides.
    pub async fn holds(&self, wanted: &[(&str, &[u8])]) {
        let found = self.equal().await;
        let wanted: Contents =
            wanted.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect();
        assert!(found == wanted, "{}", differ(&wanted, &found));
    }

    /// Puts a file in place, as a client of the namespace.
    pub async fn write(&self, path: &str, bytes: &[u8]) {
        self.client.put(format!("{MOUNT}/{path}"), 0o644, bytes).await.unwrap();
    }
}

/// In what two sides differ, without their bytes.
pub fn differ(ours: &Contents, theirs: &Contents) -> String {
    let short = |bytes: &[u8]| {
        let head = String::from_utf8_lossy(&bytes[..bytes.len().min(24)]).into_owned();
        format!("{} bytes {head:?}", bytes.len())
    };
    let mut lines = vec![format!("{} on the one side, {} on the other", ours.len(), theirs.len())];
    for (name, bytes) in ours {
        match theirs.get(name) {
            Some(other) if other == bytes => {}
            Some(other) => lines.push(format!("{name}: {} / {}", short(bytes), short(other))),
            None => lines.push(format!("{name}: {} / nothing", short(bytes))),
        }
    }
    for (name, bytes) in theirs.iter().filter(|(name, _)| !ours.contains_key(*name)) {
        lines.push(format!("{name}: nothing / {}", short(bytes)));
    }
    lines.truncate(40);
    lines.join("\n")
}

/// Bytes that tell which they are.
pub fn pattern(seed: &str, length: usize) -> Vec<u8> {
    let factor = seed.bytes().fold(7_u32, |a, b| a.wrapping_mul(31).wrapping_add(u32::from(b))) | 1;
    (0..length as u32).map(|n| ((n.wrapping_mul(factor) ^ (n >> 8)) >> 3) as u8).collect()
}
