//! Looks at what is really in the under-store and on the data nodes' disks, and takes away what the
//! state names nowhere: objects of packs by a tombstone in the log, replicas by the work that deletes
//! them.
//!
//! What is looked for stays as it is once it is so, whoever looks, however old the state that is looked
//! at: an id is given out once, together with the row or the intent that names it, and both go for ever.
//! So an object or a replica that nothing names, of an id that was given out, will never be named; one of
//! an id that this state has not given out is left alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cairn_proto::{WireError, v1};
use cairn_types::{ChunkId, FeatureLevel, FsError, NodeId, PackId};

use super::board::WorkKey;
use super::tenure::{JobFault, Tenure};
use super::turns::Turns;
use super::{notice, rows};
use crate::keys::chunks::{ChunkRecord, ChunkState};
use crate::keys::intents::Work;
use crate::keys::packs;
use crate::namespace::command::{CONDEMNED_MAX, StrayPack};
use crate::namespace::{Command, jobs, read};
use crate::store::Rows;

/// How often all is looked at, when nobody asks.
const PERIOD: Duration = Duration::from_secs(3_600);
/// How long after a leader began it looks for the first time.
const FIRST: Duration = Duration::from_secs(600);
/// How long a data node may take for a page.
const PAGE_DEADLINE: Duration = Duration::from_secs(20);
/// Intents read in one step.
const PAGE: usize = 1024;

/// So many things, of so many bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    /// One more.
    pub fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// What a survey found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Objects that no row and no intent names.
    pub orphans: Amount,
    /// Objects in the cluster's area that are none of its packs.
    pub unknown: Amount,
    /// Replicas on disks that no chunk's row names.
    pub strays: Amount,
    /// Uploads in parts that nobody completes any more.
    pub abandoned_uploads: u64,
    /// Orphans that got their tombstones.
    pub condemned: u64,
    /// Data nodes that did not tell what they hold.
    pub silent: Vec<NodeId>,
    /// Why the under-store could not be listed; `None` when it was.
    pub bucket_error: Option<String>,
    /// Objects and replicas looked at.
    pub looked_at: u64,
}

/// Who hears how far a survey has come: its part, and how much was looked at in it.
pub type Progress<'a> = &'a (dyn Fn(&'static str, u64) + Send + Sync);

/// Runs until the tenure ends.
pub async fn run(tenure: Arc<Tenure>) {
    let mut turns = Turns::new(&tenure, "survey", Duration::from_secs(60));
    let mut next = tenure.clock.boottime().saturating_add(FIRST);
    while turns.next().await {
        let now = tenure.clock.boottime();
        if now < next {
            continue;
        }
        // An operator is at it.
        let Some(_permit) = tenure.gc.begin() else { continue };
        next = now.saturating_add(PERIOD);
        let outcome = survey(&tenure, false, &|_, _| {}).await;
        if let Ok(found) = &outcome {
            metrics::gauge!("cairn_meta_unknown_objects_count").set(found.unknown.count as f64);
        }
        turns.ended(outcome.map(drop));
    }
}

/// Looks at everything once; unless `only_look`, sees to it that what nothing names goes.
///
/// # Errors
/// [`JobFault`] when the state cannot be read, or the log takes no entry.
pub async fn survey(tenure: &Arc<Tenure>, only_look: bool, tell: Progress<'_>) -> Result<Found, JobFault> {
    let mut found = Found::default();
    bucket(tenure, only_look, tell, &mut found).await?;
    for view in tenure.registry.all() {
        let (node, address) = (view.registered.node, &view.registered.address);
        if view.registered.removed {
            continue;
        }
        if !view.is_live() || disk(tenure, node, address, only_look, tell, &mut found).await?.is_err() {
            found.silent.push(node);
        }
    }
    metrics::counter!("cairn_meta_orphans_condemned_total").increment(found.condemned);
    if !only_look && found.strays.count > 0 {
        tracing::warn!(count = found.strays.count, "data nodes hold replicas that nothing names");
    }
    Ok(found)
}

/// Pages of the under-store's listing, from any node that can list it.
async fn bucket(
    tenure: &Arc<Tenure>,
    only_look: bool,
    tell: Progress<'_>,
    found: &mut Found,
) -> Result<(), JobFault> {
    let mut start_after = String::new();
    let mut stray = Vec::new();
    loop {
        let page = match list(tenure, &start_after, only_look).await {
            Ok(page) => page,
            Err(error) => {
                found.bucket_error = Some(error.to_string());
                break;
            }
        };
        found.abandoned_uploads += page.abandoned_uploads;
        found.looked_at += page.objects.len() as u64;
        let next = page.objects.last().map(|object| object.key.clone());
        let (view, cluster) = (tenure.local()?, tenure.cluster);
        let area = format!("{cluster}/packs/");
        let judged = tokio::task::spawn_blocking(move || judge(&*view.store, &area, page.objects));
        let Judged { orphans, unknown } = judged.await??;
        orphans.iter().for_each(|orphan| found.orphans.add(orphan.bytes));
        found.unknown.count += unknown.count;
        found.unknown.bytes += unknown.bytes;
        stray.extend(orphans);
        while !only_look && stray.len() >= CONDEMNED_MAX {
            let packs = stray.drain(..CONDEMNED_MAX).collect();
            found.condemned += condemn(tenure, packs).await?;
        }
        tell("objects in the under-store", found.looked_at);
        match next.filter(|next| page.more && *next > start_after) {
            Some(next) => start_after = next,
            None => break,
        }
    }
    if !only_look && !stray.is_empty() {
        found.condemned += condemn(tenure, stray).await?;
    }
    Ok(())
}

async fn condemn(tenure: &Tenure, packs: Vec<StrayPack>) -> Result<u64, JobFault> {
    if jobs::level(&*tenure.local()?.store)? < FeatureLevel::FOURTH {
        return Ok(0);
    }
    let count = packs.len() as u64;
    for stray in &packs {
        tracing::warn!(pack = %stray.pack, bytes = stray.bytes, "an object that nothing names is condemned");
    }
    Ok(tenure.try_propose(Command::CondemnPacks { packs }).await?.map_or(0, |_| count))
}

async fn list(
    tenure: &Tenure,
    start_after: &str,
    only_look: bool,
) -> Result<v1::SurveyPacksReply, WireError> {
    let mut last = WireError::from(FsError::NotSupported);
    for view in tenure.registry.all().into_iter().filter(super::nodes::View::is_live) {
        let request = v1::SurveyPacksRequest { start_after: start_after.to_owned(), only_look };
        match tenure.data.survey_packs(&view.registered.address, request, PAGE_DEADLINE).await {
            Ok(page) => return Ok(page),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What a page of a listing holds that the state does not name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Judged {
    orphans: Vec<StrayPack>,
    unknown: Amount,
}

fn judge(
    state: &dyn Rows,
    area: &str,
    objects: Vec<v1::SurveyedObject>,
) -> Result<Judged, crate::keys::RowFault> {
    let mut judged = Judged::default();
    let cluster = read::cluster(state)?;
    let mut in_intents = None;
    for object in objects {
        let pack = object.key.strip_prefix(area).and_then(pack_named).filter(|p| *p < cluster.next.pack);
        let Some(pack) = pack else {
            judged.unknown.add(object.bytes);
            continue;
        };
        match jobs::pack(state, pack)? {
            Some(record) if record.key == object.key => continue,
            // The id is a pack's of another cluster, which was loaded from a dump.
            Some(_) => judged.unknown.add(object.bytes),
            None => {
                let named = match in_intents.take() {
                    Some(named) => named,
                    None => packs_of_intents(state)?,
                };
                if !named.contains(&pack) {
                    judged.orphans.push(StrayPack { pack, etag: object.etag, bytes: object.bytes });
                }
                in_intents = Some(named);
            }
        }
    }
    Ok(judged)
}

/// The pack whose object's name this is.
fn pack_named(name: &str) -> Option<PackId> {
    let pack = PackId(u64::from_str_radix(name, 16).ok()?);
    // As `packs::object_key` writes it, and no other way.
    packs::object_key(cairn_types::ClusterId::default(), pack).ends_with(&format!("/{name}")).then_some(pack)
}

fn packs_of_intents(state: &dyn Rows) -> Result<BTreeSet<PackId>, crate::keys::RowFault> {
    let (mut named, mut after) = (BTreeSet::new(), None);
    loop {
        let page = jobs::intents(state, after, PAGE)?;
        let Some(last) = page.last() else { return Ok(named) };
        after = Some(last.intent);
        named.extend(page.iter().filter_map(|intent| match &intent.work {
            Work::Upload { pack, .. }
            | Work::DeletePack { pack, .. }
            | Work::Compact { pack, .. }
            | Work::Merge { pack, .. } => Some(*pack),
            Work::Import { .. }
            | Work::PutObject { .. }
            | Work::DeleteObject { .. }
            | Work::ProbeMount { .. } => None,
        }));
    }
}

/// What is wrong about a replica on a disk.
#[derive(Debug, PartialEq, Eq)]
enum Stray {
    /// Its chunk is gone.
    Gone(ChunkId),
    /// Its chunk is sealed, and the node is not, and becomes not, one of its replicas.
    Elsewhere(Box<ChunkRecord>),
}

/// Pages of the replicas on a node's disk; the inner error is the node's.
async fn disk(
    tenure: &Arc<Tenure>,
    node: NodeId,
    address: &str,
    only_look: bool,
    tell: Progress<'_>,
    found: &mut Found,
) -> Result<Result<(), WireError>, JobFault> {
    let mut after = 0;
    loop {
        let request = v1::SurveyReplicasRequest { after, limit: 0, node: node.0 };
        let page = match tenure.data.survey_replicas(address, request, PAGE_DEADLINE).await {
            Ok(page) => page,
            Err(error) => return Ok(Err(error)),
        };
        found.looked_at += page.replicas.len() as u64;
        let next = page.replicas.last().map(|replica| replica.chunk);
        let view = tenure.local()?;
        // What is loaded is known piece by piece: until its end nothing is a stray.
        if read::load(&*view.store)?.is_some() {
            return Ok(Ok(()));
        }
        let read = move || strays(&*view.store, node, &page.replicas).map(|strays| (strays, page.more));
        let (strays, more) = tokio::task::spawn_blocking(read).await??;
        for (stray, bytes) in strays {
            take_away(tenure, node, stray, bytes, only_look, found);
        }
        tell("replicas on disks", found.looked_at);
        match next.filter(|next| more && *next > after) {
            Some(next) => after = next,
            None => return Ok(Ok(())),
        }
    }
}

fn take_away(tenure: &Tenure, node: NodeId, stray: Stray, bytes: u64, only_look: bool, found: &mut Found) {
    match stray {
        Stray::Gone(chunk) => {
            found.strays.add(bytes);
            if !only_look {
                tenure.board.offer(node, WorkKey::Delete(chunk), notice::delete(chunk));
            }
        }
        Stray::Elsewhere(record) => {
            // A copy that is being made is no replica yet.
            if tenure.board.is_offered(node, WorkKey::Copy(record.chunk)) {
                return;
            }
            found.strays.add(bytes);
            // Before it obeys, the node asks whether it has become a holder since.
            if let Some(work) = notice::sealed(&record, node).filter(|_| !only_look) {
                tenure.board.notify(node, work);
            }
        }
    }
}

fn strays(
    state: &dyn Rows,
    node: NodeId,
    replicas: &[v1::SurveyedReplica],
) -> Result<Vec<(Stray, u64)>, crate::keys::RowFault> {
    let next = read::cluster(state)?.next.chunk;
    let mut found = Vec::new();
    for replica in replicas.iter().filter(|r| ChunkId(r.chunk) < next) {
        match read::chunk(state, ChunkId(replica.chunk))? {
            None => found.push((Stray::Gone(ChunkId(replica.chunk)), replica.bytes)),
            Some(record) => {
                let elsewhere = record.replicas.iter().all(|r| r.node != node);
                if record.state == ChunkState::Sealed && elsewhere {
                    found.push((Stray::Elsewhere(Box::new(record)), replica.bytes));
                }
            }
        }
    }
    Ok(found)
}

/// Rows of the queue of dead chunks, all of them, page by page.
///
/// # Errors
/// A fault of the store.
pub fn each_waiting(
    state: &dyn Rows,
    queue: crate::keys::queues::Queue,
    mut each: impl FnMut(ChunkRecord),
) -> Result<(), crate::keys::RowFault> {
    let mut after = None;
    loop {
        let (records, next) = rows::queued_chunks(state, queue, after, PAGE)?;
        records.into_iter().for_each(&mut each);
        match next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}
