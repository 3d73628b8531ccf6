//! Three actors at random: a client of the namespace, another client of the bucket, and an endpoint that fails while
//! servers die. In the end the bucket is what the namespace says, every conflict has a record, and what somebody wrote
//! is there unless somebody who saw it, or may have, replaced or removed it.
//!
//! Each write has a token of its own. The other client looks before it writes and writes conditionally: it gives up
//! exactly the tokens that it saw. The client of the namespace gives up what was written since the last rest at the
//! name that it changes, or at one that may have become it. At a rest both sides are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::ByteStream;
use cairn_sdk::types::MountId;
use cairn_sdk::{AttrChange, Client, MountConflict, RenameMode, SyncOptions};
use cairn_tests::cluster::eventually;
use cairn_tests::fault_proxy::{Fault, FaultProxy, When};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_util::sync::CancellationToken;

use crate::mount_bed::{Bed, Contents, MOUNT, PREFIX, small};

const DIRECTORIES: [&str; 3] = ["d0", "d1", "d2"];
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// Rests in a run, and what the client of the namespace does before each.
const RESTS: usize = 5;
const STEPS: usize = 30;

/// What is known of tokens. Guards that what is at a name, and what was given up, are of one moment.
#[derive(Default)]
struct Known {
    next: u64,
    /// Acknowledged writes.
    written: BTreeSet<String>,
    /// Those that somebody replaced or removed.
    given_up: BTreeSet<String>,
    /// What was at a name at the last rest, and was written there since.
    at: BTreeMap<String, BTreeSet<String>>,
    /// By name, the names whose files may have come to it since then: until its object has followed, what others write
    /// at the old key is the file's.
    from: BTreeMap<String, BTreeSet<String>>,
}

impl Known {
    fn token(&mut self, who: char) -> String {
        self.next += 1;
        format!("<{who}{}>", self.next)
    }

    fn wrote(&mut self, path: &str, token: &str) {
        self.written.insert(token.to_owned());
        self.at.entry(path.to_owned()).or_default().insert(token.to_owned());
    }

    fn may_be_at(&mut self, path: &str, token: &str) {
        self.at.entry(path.to_owned()).or_default().insert(token.to_owned());
    }

    fn gave_up(&mut self, path: &str) {
        let (mut seen, mut waiting) = (BTreeSet::new(), vec![path.to_owned()]);
        while let Some(path) = waiting.pop() {
            if seen.insert(path.clone()) {
                self.given_up.extend(self.at.get(&path).cloned().unwrap_or_default());
                waiting.extend(self.from.get(&path).cloned().unwrap_or_default());
            }
        }
    }

    fn moved(&mut self, from: &str, to: &str) {
        self.from.entry(to.to_owned()).or_default().insert(from.to_owned());
    }

    /// Both sides are these, and nothing is on its way.
    fn rest(&mut self, found: &Contents) {
        self.from.clear();
        self.at = found.iter().map(|(path, bytes)| (path.clone(), tokens(bytes))).collect();
    }

    /// Acknowledged, not given up, and not in these.
    fn lost(&self, found: &Contents) -> Vec<String> {
        let there: BTreeSet<String> = found.values().flat_map(|bytes| tokens(bytes)).collect();
        let lost = self.written.iter().filter(|t| !self.given_up.contains(*t) && !there.contains(*t));
        let told = lost.map(|token| {
            let at = self.at.iter().filter(|(_, all)| all.contains(token)).map(|(path, _)| path.as_str());
            format!("{token} of {:?}", at.collect::<Vec<_>>())
        });
        told.collect()
    }
}

type Shared = Arc<Mutex<Known>>;

fn tokens(bytes: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(bytes);
    text.split_inclusive('>').filter_map(|part| Some(part[part.find('<')?..].to_owned())).collect()
}

/// The client of the namespace.
struct Inside {
    client: Client,
    known: Shared,
    rng: StdRng,
}

impl Inside {
    fn path(&mut self) -> String {
        let directory = DIRECTORIES[self.rng.random_range(0..DIRECTORIES.len())];
        format!("{directory}/{}", NAMES[self.rng.random_range(0..NAMES.len())])
    }

    async fn step(&mut self) {
        let path = self.path();
        match self.rng.random_range(0..20_u32) {
            0..6 => self.put(&path).await,
            6..10 => self.append(&path).await,
            10..12 => self.unlink(&path).await,
            12 => self.cut(&path).await,
            13..16 => {
                let to = self.path();
                self.rename(&path, &to).await;
            }
            16..18 => self.rename_directory().await,
            _ => {
                let options = SyncOptions { recursive: true, ..SyncOptions::default() };
                // The endpoint fails on purpose.
                let _ = self.client.mount_sync(MOUNT, options, |_| ()).await;
            }
        }
        let pause = self.rng.random_range(0..120);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    async fn put(&mut self, path: &str) {
        let token = self.known.lock().unwrap().token('N');
        let filler = self.rng.random_range(0..3_u32) * 2_000;
        let body = [token.as_bytes(), &vec![b'.'; filler as usize]].concat();
        self.known.lock().unwrap().gave_up(path);
        let outcome = self.client.put(format!("{MOUNT}/{path}"), 0o644, &body).await.map(drop);
        self.note(path, &token, outcome);
    }

    async fn append(&mut self, path: &str) {
        let token = self.known.lock().unwrap().token('N');
        let outcome = async {
            let file = self.client.open_append(format!("{MOUNT}/{path}")).await?;
            file.append(token.clone().into_bytes()).await?;
            file.close().await
        };
        let outcome = outcome.await;
        self.note(path, &token, outcome);
    }

    fn note(&self, path: &str, token: &str, outcome: Result<(), cairn_sdk::Error>) {
        let mut known = self.known.lock().unwrap();
        match outcome {
            Ok(()) => known.wrote(path, token),
            Err(error) => {
                println!("write {path}: {error}");
                known.may_be_at(path, token);
            }
        }
    }

    async fn unlink(&mut self, path: &str) {
        self.known.lock().unwrap().gave_up(path);
        let _ = self.client.unlink(format!("{MOUNT}/{path}")).await;
    }

    async fn cut(&mut self, path: &str) {
        self.known.lock().unwrap().gave_up(path);
        let nothing = AttrChange { size: Some(0), ..AttrChange::default() };
        let _ = self.client.set_attr(format!("{MOUNT}/{path}"), nothing).await;
    }

    async fn rename(&mut self, from: &str, to: &str) {
        if from == to {
            return;
        }
        {
            let mut known = self.known.lock().unwrap();
            known.gave_up(to);
            known.moved(from, to);
        }
        let (from, to) = (format!("{MOUNT}/{from}"), format!("{MOUNT}/{to}"));
        let _ = self.client.rename(from, to, RenameMode::Replace).await;
    }

    /// Two directories change their names.
    async fn rename_directory(&mut self) {
        let (from, to) = (self.rng.random_range(0..3_usize), self.rng.random_range(0..3_usize));
        if from == to {
            return;
        }
        {
            let mut known = self.known.lock().unwrap();
            // Files of conflicts lie there too: nobody else touches them.
            for name in NAMES {
                let (a, b) = (format!("{}/{name}", DIRECTORIES[from]), format!("{}/{name}", DIRECTORIES[to]));
                known.moved(&a, &b);
                known.moved(&b, &a);
            }
        }
        let (from, to) = (format!("{MOUNT}/{}", DIRECTORIES[from]), format!("{MOUNT}/{}", DIRECTORIES[to]));
        let _ = self.client.rename(from, to, RenameMode::Exchange).await;
    }
}

/// The other client of the bucket: looks, then writes what it saw there over, conditionally.
async fn outside(
    s3: aws_sdk_s3::Client,
    bucket: String,
    known: Shared,
    seed: u64,
    deletes: bool,
    stop: CancellationToken,
) {
    let mut rng = StdRng::seed_from_u64(seed);
    while !stop.is_cancelled() {
        let directory = DIRECTORIES[rng.random_range(0..DIRECTORIES.len())];
        let path = format!("{directory}/{}", NAMES[rng.random_range(0..NAMES.len())]);
        let key = format!("{PREFIX}{path}");
        let seen = match s3.get_object().bucket(&bucket).key(&key).send().await {
            Ok(object) => {
                let etag = object.e_tag().unwrap_or_default().to_owned();
                let Ok(body) = object.body.collect().await else { continue };
                Some((etag, tokens(&body.to_vec())))
            }
            Err(_) => None,
        };
        if let Some((etag, gone)) = seen.as_ref().filter(|_| deletes && rng.random_range(0..4_u32) == 0) {
            // Before: what is done may be seen before it is answered.
            known.lock().unwrap().given_up.extend(gone.iter().cloned());
            let _ = s3.delete_object().bucket(&bucket).key(&key).if_match(etag).send().await;
        } else {
            let token = known.lock().unwrap().token('O');
            known.lock().unwrap().may_be_at(&path, &token);
            let body = ByteStream::from(token.clone().into_bytes());
            let put = s3.put_object().bucket(&bucket).key(&key).body(body);
            let put = match &seen {
                Some((etag, _)) => put.if_match(etag),
                None => put.if_none_match("*"),
            };
            let outcome = put.send().await;
            let refused = matches!(&outcome, Err(SdkError::ServiceError(error)) if error.raw().status().is_client_error());
            let mut known = known.lock().unwrap();
            if !refused {
                known.given_up.extend(seen.into_iter().flat_map(|(_, gone)| gone));
            }
            if outcome.is_ok() {
                known.wrote(&path, &token);
            }
        }
        let pause = rng.random_range(20..250);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

/// The endpoint, as the data node sees it.
fn trouble(proxy: &FaultProxy, rng: &mut StdRng) {
    let times = rng.random_range(1..4);
    let methods = ["PUT", "POST", "GET", "HEAD", "DELETE"];
    let when = When::method(methods[rng.random_range(0..methods.len())]).times(times);
    let fault = match rng.random_range(0..7_u32) {
        0 => Fault::SlowDown,
        1 => Fault::InternalError,
        2 | 3 => Fault::LoseAnswer,
        4 => Fault::Cut,
        5 => Fault::TruncateRequest { after_bytes: 10 },
        _ => Fault::Latency(Duration::from_millis(400)),
    };
    proxy.inject(when, fault);
}

async fn three_actors(mut bed: Bed, seed: u64) {
    println!("seed {seed}");
    let mount = bed.mount().await;
    let abilities = mount.abilities.unwrap();
    if !abilities.put_if_match || !abilities.put_if_absent {
        println!("the endpoint lacks a condition: nobody else may write there");
        return;
    }
    for directory in DIRECTORIES {
        bed.client.mkdir(format!("{MOUNT}/{directory}"), 0o755).await.unwrap();
    }
    let known = Shared::default();
    let mut inside =
        Inside { client: bed.client.clone(), known: known.clone(), rng: StdRng::seed_from_u64(seed) };
    let mut faults = StdRng::seed_from_u64(seed ^ 0x1234);
    for rest in 0..RESTS {
        let stop = CancellationToken::new();
        let (s3, bucket) = (bed.s3.clone(), bed.bucket.name().to_owned());
        let seed = seed ^ (rest as u64 + 1) << 32;
        let other = outside(s3, bucket, known.clone(), seed, abilities.delete_if_match, stop.clone());
        // Where the endpoint lacks a condition nobody else may write: there are two actors then.
        let alone = mount.options.rules.sole_writer;
        let other = tokio::spawn(async move { if alone { drop(other) } else { other.await } });
        act(&mut bed, &mut inside, &mut faults).await;
        stop.cancel();
        other.await.unwrap();
        bed.proxy.heal();
        let found = at_rest(&bed).await;
        let mut known = known.lock().unwrap();
        let lost = known.lost(&found);
        assert!(lost.is_empty(), "seed {seed}, rest {rest}: lost: {lost:?}");
        println!("{} written, {} given up, {} files", known.written.len(), known.given_up.len(), found.len());
        known.rest(&found);
    }
    every_conflict_has_a_record(&bed, mount.id).await;
}

/// What the client of the namespace does between two rests, and what befalls the others meanwhile.
async fn act(bed: &mut Bed, inside: &mut Inside, faults: &mut StdRng) {
    for step in 0..STEPS {
        inside.step().await;
        if faults.random_range(0..4_u32) == 0 {
            trouble(&bed.proxy, faults);
        }
        // Who writes to the bucket, or decides what is written, dies in the middle of it.
        match step {
            9 => {
                bed.cluster.datas[0].kill();
                bed.cluster.datas[0].start().unwrap();
            }
            19 => {
                bed.cluster.metas[0].kill();
                bed.cluster.metas[0].start().unwrap();
            }
            _ => {}
        }
    }
}

/// Reads the bucket and waits until nothing is on its way: what both sides hold then.
async fn at_rest(bed: &Bed) -> Contents {
    let options = SyncOptions { recursive: true, ..SyncOptions::default() };
    for _ in 0..2 {
        let synced = || async { bed.client.mount_sync(MOUNT, options, |_| ()).await.ok() };
        eventually("the whole mount to be read", Duration::from_secs(120), synced).await.unwrap();
        bed.settled().await;
    }
    bed.equal().await
}

async fn every_conflict_has_a_record(bed: &Bed, mount: MountId) {
    let conflicts = bed.client.mount_conflicts(mount, None, 10_000).await.unwrap();
    let path = |conflict: &MountConflict| String::from_utf8(conflict.kept.clone()?.1).ok();
    let kept: BTreeSet<String> = conflicts.iter().filter_map(path).collect();
    let of_conflicts = |path: &&String| path.contains(".conflict-") || path.starts_with(".cairn-conflicts/");
    for path in bed.paths().await.unwrap().iter().filter(of_conflicts) {
        assert!(kept.contains(&format!("{MOUNT}/{path}")), "{path} has no record: {conflicts:?}");
    }
    println!("{} conflicts", conflicts.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn three_actors_on_seaweedfs() {
    three_actors(Bed::seaweed(small()).await, 11).await;
    three_actors(Bed::seaweed(small()).await, 12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_actors_on_moto() {
    three_actors(Bed::moto(small()).await, 21).await;
}
