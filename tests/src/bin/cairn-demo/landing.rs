//! Act eight: a bucket that others filled, mounted at a path; its objects are files at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aws_sdk_s3::Client as S3Client;
use aws_sdk_s3::primitives::ByteStream;
use cairn_sdk::types::FileKind;
use cairn_sdk::{Client, MountOptions};
use futures::{StreamExt, TryStreamExt, stream};

use crate::error::DemoError;
use crate::remote::{self, below};
use crate::report::{Report, rate};
use crate::say;
use crate::stage::Stage;

const BUCKET: &str = "landing";
const MOUNT: &str = "/landing";
/// Days, and objects of each.
const DAYS: usize = 6;
const OBJECTS_A_DAY: usize = 40;
const AT_ONCE: usize = 16;
/// An object large enough that its ranges matter, and its key.
const LARGE_BYTES: usize = 12 << 20;
const LARGE_KEY: &str = "models/large.bin";
/// A range of it that is read alone, over the edges of what a node fetches at once.
const RANGE: (usize, usize) = ((5 << 20) + 123, (2 << 20) + 77);

/// Fills a bucket with the S3 SDK, mounts it, and reads every object as a file.
pub async fn mount_and_read(stage: &Stage, report: &mut Report) -> Result<(), DemoError> {
    say::act("Mounting a second bucket, filled by the AWS SDK and never seen by CairnFS");
    let objects = objects();
    let bytes: u64 = objects.values().map(|content| content.len() as u64).sum();
    fill(stage, &objects).await?;
    let client = stage.client();
    let options = MountOptions {
        bucket: BUCKET.to_owned(),
        prefix: String::new(),
        endpoint: stage.s3().endpoint(),
        region: stage.s3().bucket().region().to_owned(),
        force_path_style: true,
        refresh: Duration::from_secs(60),
        ..MountOptions::default()
    };
    let started = Instant::now();
    client.mount_add(MOUNT, options).await?;
    let found = remote::walk(&client, MOUNT).await?;
    let elapsed = started.elapsed();
    let files: BTreeMap<Vec<u8>, u64> = found
        .entries
        .iter()
        .filter(|(_, inode)| inode.kind == FileKind::File)
        .map(|(path, inode)| (path.clone(), inode.size))
        .collect();
    let expected: BTreeMap<Vec<u8>, u64> =
        objects.iter().map(|(key, content)| (key.clone().into_bytes(), content.len() as u64)).collect();
    if files != expected {
        let what = format!("{MOUNT} shows {} files, the bucket has {} objects", files.len(), expected.len());
        return Err(DemoError::Mismatch(what));
    }
    say::ok(format!(
        "s3://{BUCKET} at {MOUNT}: {} files in {} directories listed in {}, nothing copied",
        say::number(files.len() as u64),
        found.directories,
        say::duration(elapsed)
    ));
    let how = format!("{} directories read from S3 when first asked for", found.directories);
    report.row("mount and first listing", say::duration(elapsed), how);

    let cold = read_all(&client, &objects).await?;
    say::ok(format!(
        "{} bytes read as files, ranged GETs with If-Match: all equal to the objects",
        say::number(bytes)
    ));
    report.row("read objects, first time", format!("{:.1} MB/s", rate(bytes, cold) / 1e6), "from S3");
    let warm = read_all(&client, &objects).await?;
    report.row(
        "read objects, again",
        format!("{:.1} MB/s", rate(bytes, warm) / 1e6),
        "from the data nodes' cache",
    );
    read_range(&client, &objects[LARGE_KEY]).await
}

/// What others put into the bucket.
fn objects() -> BTreeMap<String, Vec<u8>> {
    let mut objects = BTreeMap::new();
    for day in 1..=DAYS {
        for part in 0..OBJECTS_A_DAY {
            let bytes = 500 + (day * 7919 + part * 104_729) % 60_000;
            objects.insert(
                format!("logs/2026/11/{day:02}/part-{part:05}.csv"),
                content(bytes, day * 1000 + part),
            );
        }
    }
    objects.insert(LARGE_KEY.to_owned(), content(LARGE_BYTES, 1));
    objects.insert(
        "README.txt".to_owned(),
        b"Written by an S3 client that knows nothing of CairnFS.\n".to_vec(),
    );
    objects
}

/// Bytes that differ from object to object and from place to place (an xorshift generator).
fn content(bytes: usize, seed: usize) -> Vec<u8> {
    let mut state = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}

async fn fill(stage: &Stage, objects: &BTreeMap<String, Vec<u8>>) -> Result<(), DemoError> {
    let bucket = stage.s3().create_bucket(BUCKET).await;
    let s3 = bucket.map_err(|error| DemoError::s3("make a bucket", error))?.client();
    let started = Instant::now();
    stream::iter(objects.clone())
        .map(|(key, content)| put_object(&s3, key, content))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    say::note(format!(
        "{} objects put into s3://{BUCKET} in {}",
        say::number(objects.len() as u64),
        say::duration(started.elapsed())
    ));
    Ok(())
}

async fn put_object(s3: &S3Client, key: String, content: Vec<u8>) -> Result<(), DemoError> {
    let put = s3.put_object().bucket(BUCKET).key(key).body(ByteStream::from(content)).send().await;
    put.map(drop).map_err(|error| DemoError::s3("put an object", error))
}

async fn read_all(client: &Client, objects: &BTreeMap<String, Vec<u8>>) -> Result<Duration, DemoError> {
    let started = Instant::now();
    stream::iter(objects)
        .map(|(key, content)| read_one(client, key, content))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    Ok(started.elapsed())
}

async fn read_one(client: &Client, key: &str, content: &[u8]) -> Result<(), DemoError> {
    let file = client.open(below(MOUNT, key.as_bytes())).await?;
    let got = file.read_at(0, content.len() + 1).await?;
    if got == content {
        return Ok(());
    }
    let what =
        format!("{MOUNT}/{key}: {} bytes read, the object has {}, or they differ", got.len(), content.len());
    Err(DemoError::Mismatch(what))
}

async fn read_range(client: &Client, content: &[u8]) -> Result<(), DemoError> {
    let (from, length) = RANGE;
    let file = client.open(below(MOUNT, LARGE_KEY.as_bytes())).await?;
    let got = file.read_at(from as u64, length).await?;
    if got != content[from..from + length] {
        return Err(DemoError::Mismatch(format!("{MOUNT}/{LARGE_KEY}: bytes {from}+{length} differ")));
    }
    say::ok(format!(
        "a range of {} bytes in the middle of {MOUNT}/{LARGE_KEY} too",
        say::number(length as u64)
    ));
    Ok(())
}
