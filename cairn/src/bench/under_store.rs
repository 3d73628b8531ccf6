//! Cases that need an under-store: reads of what only S3 has, and what small files cost in PUTs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_datanode::UnderStoreConfig;
use cairn_datanode::understore::{ListRequest, S3Clients, UnderStore, UnderStoreError, open};
use cairn_proto::handshake;
use cairn_proto::v1::EvictRequest;
use cairn_proto::v1::data_client::DataClient;
use cairn_sdk::Client;
use cairn_types::{SystemClock, SystemRandom};
use futures::{StreamExt, TryStreamExt, stream};
use tonic::Request;

use super::Case;
use super::cases::{files, run_name};
use super::measure::{Measured, Recorder, Run, Sample, median};
use crate::cli::BenchArgs;
use crate::exit::CliError;
use crate::lag::cluster::{dollars, requests};

/// Bytes of one GET where the endpoint alone is measured, and how many are under way: as a reader's.
const GET_BYTES: u64 = 4 << 20;
const GETS_AT_ONCE: usize = 4;
/// Small files of a run.
const SMALL_FILES: u64 = 100_000;
/// How long an attempt at a request of S3 may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// PUTs that 100,000 small files may cost: hundreds.
const PUTS_AIM: f64 = 1_000.0;

/// Where the bench's cluster writes through to.
pub fn config(args: &BenchArgs) -> Option<UnderStoreConfig> {
    let url = args.s3.clone()?;
    Some(UnderStoreConfig {
        url,
        endpoint: args.at.s3_endpoint.clone(),
        region: args.at.s3_region.clone(),
        force_path_style: true,
        timeout_ms: u64::try_from(TIMEOUT.as_millis()).unwrap_or(u64::MAX),
    })
}

fn failed(error: &UnderStoreError) -> CliError {
    CliError::io("ask", "the under-store", std::io::Error::other(error.to_string()))
}

pub async fn store(args: &BenchArgs) -> Result<Arc<dyn UnderStore>, CliError> {
    let config = config(args).ok_or_else(|| CliError::Usage("name a bucket with --s3".to_owned()))?;
    let clients = S3Clients::load(TIMEOUT).await;
    open(&config, &clients, Arc::new(SystemClock), &SystemRandom)
        .await
        .map_err(|e| CliError::io("open", &config.url, std::io::Error::other(e.to_string())))
}

/// Measures a case on a cluster that writes through.
pub async fn run(case: &Case, client: &Client, args: &BenchArgs) -> Result<Measured, CliError> {
    let store = store(args).await?;
    let root = format!("/{}", run_name(case.name));
    client.mkdir(root.as_str(), 0o755).await?;
    let mut samples = Vec::new();
    let mut limit_name = "";
    for n in 0..args.runs {
        let path = format!("{root}/run{n}");
        let (name, run, limit) = match case.name {
            "read-cold" => read_cold(client, &*store, &path).await?,
            _ => small_files(client, &path).await?,
        };
        limit_name = name;
        eprintln!("  run {}: {}, {name} {}", n + 1, run.short(case.unit), limit.short(case.unit));
        samples.push(Sample { run, limit, beside: None });
    }
    Ok(median(case, limit_name, &samples))
}

type Outcome = Result<(&'static str, Run, Run), CliError>;

/// A file that S3 alone has, read from end to end, beside ranged GETs of the same packs.
async fn read_cold(client: &Client, store: &dyn UnderStore, path: &str) -> Outcome {
    let before = objects(store).await?;
    files::fill(client, path).await?;
    client.sync(path).await?;
    let packs: Vec<_> = objects(store).await?.into_iter().filter(|o| !before.contains(o)).collect();
    evict(client).await?;
    let file = client.open(path).await?;
    let asked = Instant::now();
    file.read_at(file.length() / 2, 4096).await?;
    let first = asked.elapsed();
    evict(client).await?;
    let run = files::read_sequential(client, path).await?;
    let (alone, limit) = gets(store, &packs).await?;
    eprintln!(
        "    first byte {:.1} ms, {:.1} ms by a GET of the endpoint alone",
        first.as_secs_f64() * 1e3,
        alone.as_secs_f64() * 1e3
    );
    Ok(("GETs of aws-sdk-s3 alone", run, limit))
}

/// Every object below the under-store's prefix, and its bytes.
async fn objects(store: &dyn UnderStore) -> Result<Vec<(String, u64)>, CliError> {
    let mut found = Vec::new();
    let mut request = ListRequest::default();
    loop {
        let page = store.list(&request).await.map_err(|e| failed(&e))?;
        found.extend(page.objects.into_iter().map(|object| (object.key, object.size)));
        match page.continuation {
            Some(next) => request.continuation = Some(next),
            None => return Ok(found),
        }
    }
}

/// How long one small GET takes, and the rate of large ones.
pub async fn gets(store: &dyn UnderStore, packs: &[(String, u64)]) -> Result<(Duration, Run), CliError> {
    let asked = Instant::now();
    if let Some((key, size)) = packs.first() {
        store.get_range(key, size / 2..(size / 2 + 4096).min(*size), None).await.map_err(|e| failed(&e))?;
    }
    let first = asked.elapsed();
    let mut recorder = Recorder::start();
    // Not closures over `iter()`: their lifetimes would keep callers from spawning this.
    let mut wanted = Vec::new();
    for (key, size) in packs {
        for at in (0..*size).step_by(GET_BYTES as usize) {
            wanted.push(store.get_range(key, at..(at + GET_BYTES).min(*size), None));
        }
    }
    let mut answers = stream::iter(wanted).buffered(GETS_AT_ONCE);
    while let Some(fetched) = answers.try_next().await.map_err(|e| failed(&e))? {
        recorder.record(Duration::ZERO, fetched.bytes.len() as f64 / 1e6);
    }
    Ok((first, recorder.finish()))
}

/// Drops what the data nodes may drop.
pub async fn evict(client: &Client) -> Result<(), CliError> {
    for node in client.status().await?.nodes {
        let failed = |e: Box<dyn std::error::Error + Send + Sync>| {
            CliError::io("evict from", &node.address, std::io::Error::other(e))
        };
        let mut data =
            DataClient::connect(format!("http://{}", node.address)).await.map_err(|e| failed(Box::new(e)))?;
        let mut request = Request::new(EvictRequest { chunk: 0 });
        handshake::stamp(&mut request, client.cluster_id());
        data.evict(request).await.map_err(|e| failed(Box::new(e)))?;
    }
    Ok(())
}

/// Small files written and synced: how many PUTs they cost, as the data nodes count them.
async fn small_files(client: &Client, path: &str) -> Outcome {
    let before = requests(client).await?;
    let started = Instant::now();
    files::fill_small_files(client, path, SMALL_FILES).await?;
    client.sync(path).await?;
    let seconds = started.elapsed().as_secs_f64();
    let after = requests(client).await?;
    let puts = (after.puts + after.parts - before.puts - before.parts) as f64;
    let gib = (SMALL_FILES * files::SMALL_BYTES as u64) as f64 / f64::from(1 << 30);
    eprintln!(
        "    {SMALL_FILES} files in {seconds:.1} s: {puts} PUTs, {:.0} a GiB; all requests cost ${:.5} a GiB",
        puts / gib,
        (dollars(&after) - dollars(&before)) / gib
    );
    let of = |rate| Run { rate, ..Run::default() };
    Ok(("aim, at most", of(puts), of(PUTS_AIM)))
}
