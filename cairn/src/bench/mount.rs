//! Cases of a mounted bucket, each beside what its endpoint does alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_datanode::understore::{ListRequest, NewObject, UnderStore, UnderStoreError};
use cairn_sdk::{Client, MountOptions, MountRules, RenameMode, SyncOptions};
use futures::{StreamExt, TryStreamExt, stream};

use super::Case;
use super::cases::{files, run_name};
use super::measure::{Measured, Run, Sample, median};
use super::under_store::{evict, gets, store};
use crate::cli::BenchArgs;
use crate::exit::CliError;
use crate::lag::cluster::requests;
use crate::mount::parse_s3_url;

/// Directories that the objects are in.
const DIRECTORIES: u64 = 16;
/// Requests to the endpoint alone under way at once, and directories read at once.
const AT_ONCE: usize = 16;
/// Bytes of a small object, and of what is appended.
const SMALL_BYTES: usize = 1024;
/// Bytes of a piece of a large one.
const PIECE_BYTES: usize = 1 << 20;
/// The most that reading a cached object's first bytes may take.
const CACHED_AIM: Duration = Duration::from_micros(500);

/// A prefix of the bucket, mounted.
struct Mounted<'a> {
    client: &'a Client,
    store: Arc<dyn UnderStore>,
    /// In the store, with a slash at its end.
    prefix: String,
    path: String,
}

/// Measures a case on a cluster that has a bucket.
pub async fn run(case: &Case, client: &Client, args: &BenchArgs) -> Result<Measured, CliError> {
    let mut samples = Vec::new();
    let mut limit_name = "";
    for n in 0..args.runs {
        let name = run_name(case.name);
        let mounted = Mounted {
            client,
            store: store(args).await?,
            prefix: format!("{name}/"),
            path: format!("/{name}"),
        };
        let outcome = match case.name {
            "mount-import-1m" => mounted.import(args).await,
            "mount-read-cold" => mounted.read(args, true).await,
            "mount-read-cached" => mounted.read(args, false).await,
            "mount-rename-dir" => mounted.rename(args).await,
            _ => mounted.append(args).await,
        };
        mounted.remove().await?;
        let (name, run, limit) = outcome?;
        limit_name = name;
        eprintln!("  run {}: {}, {name} {}", n + 1, run.short(case.unit), limit.short(case.unit));
        samples.push(Sample { run, limit, beside: None });
    }
    Ok(median(case, limit_name, &samples))
}

type Outcome = Result<(&'static str, Run, Run), CliError>;

fn failed(error: &UnderStoreError) -> CliError {
    CliError::io("ask", "the mounted bucket", std::io::Error::other(error.to_string()))
}

/// So many things in that time.
fn rate(count: f64, took: Duration) -> Run {
    Run { rate: count / took.as_secs_f64().max(1e-9), count, ..Run::default() }
}

fn once(took: Duration) -> Run {
    let us = took.as_secs_f64() * 1e6;
    Run { p50: us, p99: us, p999: us, ..Run::default() }
}

/// An object of this many pieces.
fn object(pieces: usize, piece: Bytes) -> NewObject {
    let crc32c = (0..pieces).fold(0, |crc, _| crc32c::crc32c_append(crc, &piece));
    let length = (pieces * piece.len()) as u64;
    let body = stream::iter((0..pieces).map(move |_| Ok(piece.clone()))).boxed();
    NewObject { length, crc32c, metadata: Default::default(), body }
}

impl Mounted<'_> {
    /// Fills the prefix by `count` small objects and mounts it.
    async fn small(&self, args: &BenchArgs, count: u64) -> Result<Duration, CliError> {
        let keys = (0..count).map(|n| self.key(n));
        let began = Instant::now();
        self.each(keys, async |store: &dyn UnderStore, key| {
            let body = Bytes::from(vec![7; SMALL_BYTES]);
            store.put_new(&key, object(1, body)).await.map(|_| ())
        })
        .await?;
        let took = began.elapsed();
        self.mount(args).await?;
        Ok(took)
    }

    fn key(&self, n: u64) -> String {
        format!("{}d/{:02}/f{n:09}", self.prefix, n % DIRECTORIES)
    }

    /// Does something to each key, several at once.
    async fn each(
        &self,
        keys: impl Iterator<Item = String>,
        act: impl AsyncFn(&dyn UnderStore, String) -> Result<(), UnderStoreError>,
    ) -> Result<(), CliError> {
        let acts = stream::iter(keys.map(|key| act(&*self.store, key))).buffer_unordered(AT_ONCE);
        acts.try_for_each(|()| async { Ok(()) }).await.map_err(|error| failed(&error))
    }

    async fn mount(&self, args: &BenchArgs) -> Result<(), CliError> {
        let url = args.s3.clone().ok_or_else(|| CliError::Usage("name a bucket with --s3".to_owned()))?;
        let (bucket, prefix) = parse_s3_url(&url)?;
        let prefix = prefix.trim_end_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        let options = MountOptions {
            bucket,
            prefix: format!("{prefix}{slash}{}", self.prefix),
            endpoint: args.at.s3_endpoint.clone(),
            region: args.at.s3_region.clone(),
            force_path_style: true,
            refresh: Duration::ZERO,
            rules: MountRules { sole_writer: true, ..MountRules::writable() },
            ..MountOptions::default()
        };
        self.client.mount_add(self.path.as_str(), options).await?;
        self.client.mount_ready(self.path.as_str()).await?;
        Ok(())
    }

    /// All objects are read at once, beside the endpoint's listings of the same directories, as many at once.
    async fn import(&self, args: &BenchArgs) -> Outcome {
        let count = args.objects;
        self.small(args, count).await?;
        let began = Instant::now();
        let options = SyncOptions { recursive: true, at_once: AT_ONCE };
        let read = self.client.mount_sync(self.path.as_str(), options, |_| ()).await?;
        let run = rate(read.files as f64, began.elapsed());
        let began = Instant::now();
        let prefixes = (0..DIRECTORIES).map(|n| format!("{}d/{n:02}/", self.prefix));
        self.each(prefixes, async |store: &dyn UnderStore, prefix| {
            let mut request = ListRequest { prefix, delimiter: true, ..ListRequest::default() };
            loop {
                request.continuation = store.list(&request).await?.continuation;
                if request.continuation.is_none() {
                    return Ok(());
                }
            }
        })
        .await?;
        Ok(("the endpoint's listings alone", run, rate(count as f64, began.elapsed())))
    }

    /// Makes one object of `--mounted-mib`; answers its key and how long its PUT took.
    async fn large(&self, args: &BenchArgs) -> Result<(String, Duration), CliError> {
        let key = format!("{}large", self.prefix);
        let pieces = usize::try_from(args.mounted_mib).unwrap_or(1).max(1);
        let piece = Bytes::from((0..PIECE_BYTES).map(|n| ((n * 31) ^ (n >> 9)) as u8).collect::<Vec<_>>());
        let began = Instant::now();
        self.store.put_new(&key, object(pieces, piece)).await.map_err(|error| failed(&error))?;
        let took = began.elapsed();
        self.mount(args).await?;
        Ok((key, took))
    }

    /// One object from end to end, with nothing in the cache, beside GETs alone; or its bytes at random from the
    /// cache.
    async fn read(&self, args: &BenchArgs, cold: bool) -> Outcome {
        let (key, _) = self.large(args).await?;
        let path = format!("{}/large", self.path);
        let file = self.client.open(path.as_str()).await?;
        evict(self.client).await?;
        let began = Instant::now();
        file.read_at(file.length() / 2, 4096).await?;
        let first = began.elapsed();
        evict(self.client).await?;
        let run = files::read_sequential(self.client, &path).await?;
        if !cold {
            let run = files::read_random(self.client, &path, args.seconds).await?;
            return Ok(("aim, at most", run, once(CACHED_AIM)));
        }
        let (alone, limit) = gets(&*self.store, &[(key, file.length())]).await?;
        eprintln!(
            "    first byte {:.1} ms, {:.1} ms by a GET of the endpoint alone",
            first.as_secs_f64() * 1e3,
            alone.as_secs_f64() * 1e3
        );
        Ok(("GETs of aws-sdk-s3 alone", run, limit))
    }

    async fn settled(&self) -> Result<(), CliError> {
        self.client.mount_settled(self.path.as_str(), |_| true).await?;
        Ok(())
    }

    /// A directory of many objects gets another name: how fast they follow, beside as many PUTs and DELETEs.
    async fn rename(&self, args: &BenchArgs) -> Outcome {
        let count = args.objects;
        let put = self.small(args, count).await?;
        let options = SyncOptions { recursive: true, at_once: AT_ONCE };
        self.client.mount_sync(self.path.as_str(), options, |_| ()).await?;
        let began = Instant::now();
        let (from, to) = (format!("{}/d", self.path), format!("{}/e", self.path));
        self.client.rename(from, to, RenameMode::NoReplace).await?;
        eprintln!("    the rename itself {:.2} ms", began.elapsed().as_secs_f64() * 1e3);
        self.settled().await?;
        let run = rate(count as f64, began.elapsed());
        let began = Instant::now();
        let keys = (0..count).map(|n| format!("{}e/{:02}/f{n:09}", self.prefix, n % DIRECTORIES));
        self.each(keys, async |store: &dyn UnderStore, key| store.delete(&key, None).await).await?;
        Ok(("PUTs and DELETEs of aws-sdk-s3 alone", run, rate(count as f64, put + began.elapsed())))
    }

    /// 1 KiB is appended to a large object: how long until the bucket has it, beside a PUT of the whole.
    async fn append(&self, args: &BenchArgs) -> Outcome {
        let (_, put) = self.large(args).await?;
        let before = requests(self.client).await?;
        let began = Instant::now();
        let path = format!("{}/large", self.path);
        let log = self.client.open_append(path).await?;
        log.append(vec![7; SMALL_BYTES]).await?;
        log.close().await?;
        self.settled().await?;
        let took = began.elapsed();
        let after = requests(self.client).await?;
        let (up, down) = (after.bytes_up - before.bytes_up, after.bytes_down - before.bytes_down);
        eprintln!("    {up} bytes were sent to S3 for it and {down} read, packs included");
        Ok(("a PUT of the whole object", once(took), once(put)))
    }

    /// Removes the mount, and the objects.
    async fn remove(&self) -> Result<(), CliError> {
        if let Err(error) = self.client.mount_abandon(self.path.as_str()).await {
            eprintln!("cairn: {error}");
        }
        loop {
            let request = ListRequest { prefix: self.prefix.clone(), ..ListRequest::default() };
            let page = self.store.list(&request).await.map_err(|error| failed(&error))?;
            if page.objects.is_empty() {
                return Ok(());
            }
            let keys = page.objects.into_iter().map(|object| object.key);
            self.each(keys, async |store: &dyn UnderStore, key| store.delete(&key, None).await).await?;
        }
    }
}
