//! Writable mounts: what data nodes are asked to do in the bucket, and what follows from their answers.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::object_piece::Source;
use cairn_proto::v1::report_work_request::Outcome;
use cairn_proto::v1::work::Work;
use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{FsError, Policy};
use tonic::Streaming;

use super::data_node::FakeNode;
use super::gc::{ALWAYS, level_raised};
use super::group::{leader, three_by};
use super::persist::{next, sealed_file};
use super::{Cluster, LONG, Session, at, eventually, mkdir};

/// What a bucket holds, as the fake node keeps it: key → ETag and size.
type Bucket = BTreeMap<String, (String, u64)>;

fn able() -> v1::EndpointAbilities {
    v1::EndpointAbilities {
        put_if_absent: true,
        put_if_match: true,
        complete_if_absent: true,
        complete_if_match: true,
        copy_if_absent: true,
        copy_if_match: true,
        copy_source_if_match: true,
        delete_if_match: true,
        part_copy: true,
        crc32c: true,
        crc64nvme: true,
        get_if_match: true,
        byte_order: true,
        writable: true,
    }
}

fn rules() -> v1::MountRules {
    v1::MountRules { writable: true, object_lag_ms: 30_000, ..Default::default() }
}

async fn add(session: &Session<'_>, path: &str, prefix: &str) -> Result<v1::MutateReply, WireError> {
    add_by(session, path, prefix, rules()).await
}

async fn add_by(
    session: &Session<'_>,
    path: &str,
    prefix: &str,
    rules: v1::MountRules,
) -> Result<v1::MutateReply, WireError> {
    let add = v1::MountAdd {
        target: at(path),
        bucket: "bucket".into(),
        prefix: prefix.into(),
        endpoint: "http://127.0.0.1:1".into(),
        region: "here".into(),
        access: Some(v1::BucketAccess { profile: "other".into(), ..Default::default() }),
        rules: Some(rules),
        ..Default::default()
    };
    session.mutate(Operation::MountAdd(Box::new(add))).await
}

async fn mount(cluster: &Cluster) -> v1::Mount {
    let request = cluster.request(v1::ListMountsRequest { figures: true });
    let reply = cluster.meta.clone().list_mounts(request).await.expect("mounts").into_inner();
    reply.mounts.into_iter().next().expect("a mount")
}

async fn figures(cluster: &Cluster) -> v1::MountFigures {
    mount(cluster).await.figures.expect("figures")
}

fn put(work: Work) -> Option<v1::PutObject> {
    if let Work::PutObject(put) = work { Some(put) } else { None }
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

fn written(etag: &str, size: u64) -> Outcome {
    let (etag, mtime_ns) = (etag.to_owned(), 7);
    Outcome::ObjectWritten(v1::ObjectWritten { etag, size, mtime_ns, ..Default::default() })
}

/// The page of a directory's import that tells what the bucket has there.
fn page(import: &v1::Import, bucket: &Bucket) -> Outcome {
    let prefix = text(&import.prefix);
    let mut entries: BTreeMap<String, v1::ImportedEntry> = BTreeMap::new();
    for (key, (etag, size)) in bucket {
        let Some(rest) = key.strip_prefix(&prefix).filter(|rest| !rest.is_empty()) else { continue };
        let entry = match rest.split_once('/') {
            Some((name, _)) => {
                v1::ImportedEntry { name: name.to_owned().into(), directory: true, ..Default::default() }
            }
            None => v1::ImportedEntry {
                name: rest.to_owned().into(),
                size: *size,
                etag: etag.clone(),
                mtime_ns: 5,
                key: key.clone().into(),
                directory: false,
            },
        };
        entries.insert(text(&entry.name), entry);
    }
    let entries = entries.into_values().collect();
    let (mount, directory) = (import.mount, import.directory);
    Outcome::Imported(v1::ImportedBatch { mount, directory, entries, ..Default::default() })
}

/// Does one piece of work in the bucket. What somebody else changed is a conflict. Answers what was done.
fn carry_out(work: &Work, bucket: &mut Bucket) -> Option<(u64, Outcome, String)> {
    let conflict = |key: &[u8], there: Option<&(String, u64)>| {
        let (etag, size) = there.cloned().unwrap_or_default();
        let key = key.to_vec().into();
        Outcome::ObjectConflict(v1::ObjectConflict { key, present: there.is_some(), etag, size, mtime_ns: 9 })
    };
    match work {
        Work::Import(import) => Some((import.intent, page(import, bucket), "import".into())),
        Work::ProbeMount(probe) => {
            let probed = v1::MountProbed { abilities: Some(able()) };
            Some((probe.intent, Outcome::MountProbed(probed), "probe".into()))
        }
        Work::PutObject(put) => {
            let key = text(&put.key);
            for piece in &put.pieces {
                let Some(Source::Object(source)) = &piece.source else { continue };
                let there = bucket.get(&text(&source.key));
                if there.map(|(etag, _)| etag) != Some(&source.etag) {
                    return Some((put.intent, conflict(&source.key, there), format!("conflict {key}")));
                }
            }
            let there = bucket.get(&key);
            if there.map_or("", |(etag, _)| etag) != put.replaces {
                return Some((put.intent, conflict(&put.key, there), format!("conflict {key}")));
            }
            let etag = format!("\"{}\"", put.intent);
            bucket.insert(key.clone(), (etag.clone(), put.length));
            Some((put.intent, written(&etag, put.length), format!("put {key}")))
        }
        Work::DeleteObject(deletion) => {
            let key = text(&deletion.key);
            let there = bucket.get(&key);
            if there.is_some_and(|(etag, _)| *etag != deletion.etag) {
                return Some((deletion.intent, conflict(&deletion.key, there), format!("conflict {key}")));
            }
            bucket.remove(&key);
            Some((deletion.intent, Outcome::ObjectGone(v1::ObjectGone {}), format!("delete {key}")))
        }
        _ => None,
    }
}

/// A data node that does what it is asked for in the bucket. Answers what it did, in order, once nothing is
/// pending.
async fn settle(
    cluster: &Cluster,
    node: &FakeNode<'_>,
    work: &mut Streaming<v1::Work>,
    bucket: &mut Bucket,
) -> Vec<String> {
    let mut done = Vec::new();
    let settling = async {
        loop {
            let told = figures(cluster).await;
            if told.pending == 0 && told.surplus == 0 {
                return;
            }
            let piece = tokio::time::timeout(Duration::from_millis(300), work.message()).await;
            let Ok(piece) = piece else {
                // What is quiet for a second is written.
                cluster.clock.skip(Duration::from_secs(1));
                continue;
            };
            let piece = piece.expect("a stream").expect("more work").work.expect("a piece");
            if let Some((intent, outcome, what)) = carry_out(&piece, bucket) {
                node.report(intent, outcome).await.expect("reported");
                done.push(what);
            }
        }
    };
    tokio::time::timeout(3 * LONG, settling).await.unwrap_or_else(|_| panic!("it does not settle: {done:?}"));
    done
}

/// A listing by a node that answers what has to be read for it.
async fn list(
    cluster: &Cluster,
    node: &FakeNode<'_>,
    work: &mut Streaming<v1::Work>,
    bucket: &mut Bucket,
    path: &str,
) -> Vec<String> {
    while let Err(WireError::Fs(FsError::Importing { intent })) = cluster.list(path, "", 0).await {
        let import = |piece| if let Work::Import(import) = piece { Some(import) } else { None };
        let import = next(work, |piece| import(piece).filter(|import| import.intent == intent.0)).await;
        node.report(intent.0, page(&import, bucket)).await.expect("reported");
    }
    cluster.names(path).await
}

/// A cluster of one data node with a mount at /m that takes writes, and whose root was read.
async fn writable(cluster: &Cluster, node: &FakeNode<'_>, bucket: &mut Bucket) -> Streaming<v1::Work> {
    writable_by(cluster, node, bucket, rules()).await
}

async fn writable_by(
    cluster: &Cluster,
    node: &FakeNode<'_>,
    bucket: &mut Bucket,
    rules: v1::MountRules,
) -> Streaming<v1::Work> {
    level_raised(cluster).await;
    let session = cluster.session().await;
    add_by(&session, "/m", "data", rules).await.expect("mounted");
    let mut work = node.pull().await;
    let probe =
        next(&mut work, |piece| if let Work::ProbeMount(probe) = piece { Some(probe) } else { None }).await;
    node.report(probe.intent, Outcome::MountProbed(v1::MountProbed { abilities: Some(able()) }))
        .await
        .expect("reported");
    assert!(!mount(cluster).await.read_only);
    list(cluster, node, &mut work, bucket, "/m").await;
    work
}

fn bucket<const N: usize>(keys: [&str; N]) -> Bucket {
    keys.into_iter().map(|key| (key.to_owned(), (format!("\"{key}\""), 10))).collect()
}

async fn single() -> Cluster {
    Cluster::with(Policy::single(), ALWAYS).await
}

async fn extents(cluster: &Cluster, path: &str) -> v1::ExtentsReply {
    let message = v1::ExtentsRequest { target: at(path), length: u64::MAX >> 1, ..Default::default() };
    cluster.meta.clone().extents(cluster.request(message)).await.expect("extents").into_inner()
}

async fn import_now(cluster: &Cluster, path: &str) -> Result<u64, WireError> {
    let request = v1::ImportNowRequest { target: at(path), ..Default::default() };
    let reply = cluster.meta.clone().import_now(cluster.request(request)).await;
    reply.map(|reply| reply.into_inner().intent).map_err(WireError::from)
}

async fn rename(session: &Session<'_>, from: &str, to: &str) {
    let rename = v1::Rename { from: at(from), to: at(to), ..Default::default() };
    session.mutate(Operation::Rename(rename)).await.expect("renamed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_is_read_only_until_its_endpoint_was_probed() {
    let cluster = single().await;
    level_raised(&cluster).await;
    let session = cluster.session().await;
    add(&session, "/m", "data").await.expect("mounted");
    let before = mount(&cluster).await;
    assert!(before.read_only && before.abilities.is_none());
    assert_eq!(before.rules, Some(rules()));
    assert_eq!(before.access.expect("an access").profile, "other");
    let node = FakeNode::start(&cluster, 1).await;
    let mut work = node.pull().await;
    let probe =
        next(&mut work, |piece| if let Work::ProbeMount(probe) = piece { Some(probe) } else { None }).await;
    assert_eq!((probe.prefix.as_str(), probe.write), ("data/", true));
    let asked = probe.bucket.expect("a bucket");
    assert_eq!((asked.mount, asked.bucket.as_str(), asked.region.as_str()), (before.mount, "bucket", "here"));
    assert_eq!(asked.access.expect("an access").profile, "other");
    let weak = v1::EndpointAbilities { put_if_match: false, ..able() };
    let probed = Outcome::MountProbed(v1::MountProbed { abilities: Some(weak) });
    node.report(probe.intent, probed).await.expect("reported");
    let after = mount(&cluster).await;
    assert!(after.read_only && after.read_only_because.contains("--sole-writer"), "{after:?}");
    // Who says that nobody else writes there may.
    let sole = v1::MountRules { sole_writer: true, ..rules() };
    let set = v1::MountSet { target: at("/m"), refresh_ms: 5_000, access: after.access, rules: Some(sole) };
    session.mutate(Operation::MountSet(Box::new(set))).await.expect("set");
    let again =
        next(&mut work, |piece| if let Work::ProbeMount(probe) = piece { Some(probe) } else { None }).await;
    assert!(again.bucket.expect("a bucket").sole_writer);
    let probed = Outcome::MountProbed(v1::MountProbed { abilities: Some(weak) });
    node.report(again.intent, probed).await.expect("reported");
    let now = mount(&cluster).await;
    assert!(!now.read_only && now.read_only_because.is_empty() && now.refresh_ms == 5_000, "{now:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mounts_of_the_same_keys_are_refused() {
    let cluster = single().await;
    level_raised(&cluster).await;
    let session = cluster.session().await;
    let first = add(&session, "/m", "data").await.expect("mounted").mount.expect("an id");
    let overlap = Err(FsError::MountOverlap { mount: cairn_types::MountId(first) }.into());
    assert_eq!(add(&session, "/n", "data/below").await.map(drop), overlap);
    assert_eq!(add(&session, "/n", "").await.map(drop), overlap);
    add(&session, "/n", "data2").await.expect("it only begins alike");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_written_file_becomes_its_object() {
    let cluster = single().await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let mut bucket = bucket(["data/x"]);
    let mut work = writable(&cluster, &nodes[0], &mut bucket).await;
    let session = cluster.session().await;
    let chunk = sealed_file(&cluster, &session, &nodes, "/m/f").await;
    assert_eq!(figures(&cluster).await.pending, 1);
    cluster.clock.skip(Duration::from_secs(2));
    let asked = next(&mut work, put).await;
    assert_eq!((text(&asked.key), asked.replaces.as_str(), asked.length), ("data/f".into(), "", 1000));
    assert_eq!(asked.bucket.as_ref().expect("a bucket").bucket, "bucket");
    let [piece] = asked.pieces.as_slice() else { panic!("{asked:?}") };
    let Some(Source::Chunk(range)) = &piece.source else { panic!("{piece:?}") };
    assert_eq!((piece.offset, piece.length, range.chunk, range.sealed_length), (0, 1000, chunk, 1000));
    assert_eq!(range.replicas.iter().map(|r| r.node).collect::<Vec<_>>(), [nodes[0].id]);
    let told = figures(&cluster).await;
    assert_eq!((told.pending, told.pending_bytes), (1, 1000));
    assert!(told.oldest_pending_ns > 0);
    for _ in 0..2 {
        nodes[0]
            .report(asked.intent, written("\"f\"", 1000))
            .await
            .expect("a repeated report changes nothing");
    }
    let now = extents(&cluster, "/m/f").await;
    let [extent] = now.extents.as_slice() else { panic!("{now:?}") };
    let Some(v1::extent::Source::Object(object)) = &extent.source else { panic!("{extent:?}") };
    assert_eq!((text(&object.key), object.etag.as_str(), object.size), ("data/f".into(), "\"f\"", 1000));
    let told = figures(&cluster).await;
    assert_eq!((told.pending, told.surplus, told.oldest_pending_ns), (0, 0, 0));
    assert_eq!((told.objects, told.bytes), (2, 1010));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_in_a_chunk_that_others_still_write_to_are_an_object_s_too() {
    let cluster = single().await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let mut bucket = Bucket::new();
    let mut work = writable(&cluster, &nodes[0], &mut bucket).await;
    let session = cluster.session().await;
    let open = Operation::OpenChunk(v1::OpenChunk::default());
    let chunk = session.mutate(open).await.expect("opened").chunk.expect("a chunk").chunk;
    let source = Some(v1::extent::Source::Chunk(v1::ChunkSource { chunk, offset: 100 }));
    let extents = vec![v1::Extent { file_offset: 50, length: 300, source }];
    let create = v1::Create { target: at("/m/f"), mode: 0o640, extents, ..Default::default() };
    session.mutate(Operation::Create(create)).await.expect("created");
    cluster.clock.skip(Duration::from_secs(2));
    let asked = next(&mut work, put).await;
    assert_eq!((text(&asked.key), asked.length), ("data/f".into(), 350));
    let [hole, piece] = asked.pieces.as_slice() else { panic!("{asked:?}") };
    assert_eq!((hole.length, &hole.source), (50, &Some(Source::Hole(true))));
    let Some(Source::Chunk(range)) = &piece.source else { panic!("{piece:?}") };
    assert_eq!((piece.offset, piece.length, range.chunk), (100, 300, chunk));
    assert_eq!((range.known_committed, range.sealed_length), (400, 0));
    assert_eq!(asked.metadata["mode"], (0o100_640).to_string(), "as s3fs writes it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_grows_is_written_when_the_object_lag_is_over() {
    let cluster = single().await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let mut bucket = Bucket::new();
    let soon = v1::MountRules { object_lag_ms: 5_000, ..rules() };
    let mut work = writable_by(&cluster, &nodes[0], &mut bucket, soon).await;
    let session = cluster.session().await;
    let ino = session.create("/m/log").await.ino;
    let chunk = session.open_tail(ino, 1).await.expect("a tail").chunk;
    nodes[0].hold(chunk, 700, 0);
    cluster.clock.skip(Duration::from_secs(6));
    let asked = next(&mut work, put).await;
    assert_eq!((text(&asked.key), asked.length), ("data/log".into(), 700));
    assert_eq!(cluster.chunk(chunk).await.expect("known").state(), v1::ChunkState::Sealed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_directory_becomes_copies_then_deletions() {
    let cluster = single().await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let mut bucket = bucket(["data/d/a", "data/d/sub/b", "data/d/sub/c", "data/other"]);
    let before = bucket.clone();
    let mut work = writable(&cluster, &nodes[0], &mut bucket).await;
    let session = cluster.session().await;
    rename(&session, "/m/d", "/m/e").await;
    let done = settle(&cluster, &nodes[0], &mut work, &mut bucket).await;
    let keys: Vec<&str> = bucket.keys().map(String::as_str).collect();
    assert_eq!(keys, ["data/e/a", "data/e/sub/b", "data/e/sub/c", "data/other"], "{done:?}");
    for name in ["a", "sub/b", "sub/c"] {
        let at = |what: &str| done.iter().position(|done| done == what).expect("done");
        assert!(at(&format!("put data/e/{name}")) < at(&format!("delete data/d/{name}")), "{done:?}");
    }
    assert_eq!(bucket["data/other"], before["data/other"]);
    assert_eq!(list(&cluster, &nodes[0], &mut work, &mut bucket, "/m").await, ["e", "other"]);
    assert_eq!(list(&cluster, &nodes[0], &mut work, &mut bucket, "/m/e/sub").await, ["b", "c"]);
    // The prefix that it left is forgotten.
    eventually("nothing is kept of the move", async || {
        let view = cluster.node.read_local().ok()?;
        let mount = cairn_types::MountId(mount(&cluster).await.mount);
        let moves = crate::namespace::mounting::moves_after(&*view.store, mount, None, 10).ok()?;
        moves.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_there_and_back_asks_for_nothing() {
    let cluster = single().await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let mut bucket = bucket(["data/a", "data/b"]);
    let before = bucket.clone();
    let mut work = writable(&cluster, &nodes[0], &mut bucket).await;
    let session = cluster.session().await;
    rename(&session, "/m/a", "/m/z").await;
    rename(&session, "/m/z", "/m/a").await;
    let done = settle(&cluster, &nodes[0], &mut work, &mut bucket).await;
    assert_eq!((done, bucket), (Vec::<String>::new(), before));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_files_that_change_names_go_through_a_third_key() {
    let cluster = single().await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let mut bucket = Bucket::from([
        ("data/a".to_owned(), ("\"a\"".to_owned(), 10)),
        ("data/b".to_owned(), ("\"b\"".to_owned(), 20)),
    ]);
    let mut work = writable(&cluster, &nodes[0], &mut bucket).await;
    let session = cluster.session().await;
    let exchange = v1::Rename { from: at("/m/a"), to: at("/m/b"), exchange: true, ..Default::default() };
    session.mutate(Operation::Rename(exchange)).await.expect("exchanged");
    let done = settle(&cluster, &nodes[0], &mut work, &mut bucket).await;
    let sizes: Vec<(&str, u64)> = bucket.iter().map(|(key, (_, size))| (key.as_str(), *size)).collect();
    assert_eq!(sizes, [("data/a", 20), ("data/b", 10)], "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_else_wrote_meanwhile_is_a_conflict_that_is_listed() {
    let cluster = single().await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let mut bucket = Bucket::new();
    let mut work = writable(&cluster, &nodes[0], &mut bucket).await;
    let session = cluster.session().await;
    sealed_file(&cluster, &session, &nodes, "/m/f").await;
    bucket.insert("data/f".into(), ("\"theirs\"".into(), 5));
    let done = settle(&cluster, &nodes[0], &mut work, &mut bucket).await;
    assert!(done.contains(&"conflict data/f".to_owned()), "{done:?}");
    // Both are in the bucket, and both are files.
    let mut sizes: Vec<u64> = bucket.values().map(|(_, size)| *size).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [5, 1000], "{bucket:?}");
    assert_eq!(bucket["data/f"].1, 5);
    let number = mount(&cluster).await.mount;
    let conflicts = async |mount, after| {
        let request = v1::ListConflictsRequest { mount, after, limit: 1 };
        let reply = cluster.meta.clone().list_conflicts(cluster.request(request)).await;
        reply.map(tonic::Response::into_inner).map_err(WireError::from)
    };
    let listed = conflicts(number, 0).await.expect("listed");
    let [conflict] = listed.conflicts.as_slice() else { panic!("{listed:?}") };
    assert_eq!((text(&conflict.key), conflict.found_etag.as_str()), ("data/f".into(), "\"theirs\""));
    assert!(conflict.kept_ino > 0 && !conflict.kept_path.is_empty(), "{conflict:?}");
    assert_eq!(cluster.inode(&text(&conflict.kept_path)).await.size, 1000, "ours is kept beside");
    assert_eq!(conflicts(number, conflict.conflict).await.expect("listed").conflicts, []);
    assert_eq!(conflicts(number + 1, 0).await, Err(FsError::NoSuchMount.into()));
    assert_eq!(conflicts(0, 0).await, Err(ServiceError::Malformed { field: "mount".into() }.into()));
    assert_eq!(figures(&cluster).await.conflicts, 1);
    let session = cluster.session().await;
    let dismiss = v1::ConflictDismiss { mount: number, conflict: conflict.conflict };
    session.mutate(Operation::ConflictDismiss(dismiss)).await.expect("dismissed");
    assert_eq!(figures(&cluster).await.conflicts, 0);
    assert_eq!(conflicts(number, 0).await.expect("listed").conflicts, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_fails_is_told_and_done_again() {
    let cluster = single().await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let mut bucket = Bucket::new();
    let mut work = writable(&cluster, &nodes[0], &mut bucket).await;
    let session = cluster.session().await;
    sealed_file(&cluster, &session, &nodes, "/m/f").await;
    cluster.clock.skip(Duration::from_secs(2));
    let asked = next(&mut work, put).await;
    nodes[0].report(asked.intent, Outcome::Failure("503 Slow Down".into())).await.expect("reported");
    let told = figures(&cluster).await;
    assert_eq!((told.failing, told.last_error.as_str()), (1, "503 Slow Down"));
    assert_eq!(cluster.status().await.under_store_error, "", "the cluster's own bucket is another");
    cluster.clock.skip(Duration::from_secs(2));
    let again = next(&mut work, put).await;
    assert_eq!((again.intent, &again.key), (asked.intent, &asked.key));
    nodes[0].report(again.intent, written("\"f\"", 1000)).await.expect("reported");
    let told = figures(&cluster).await;
    assert_eq!((told.pending, told.failing), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_can_never_be_done_waits_for_a_change_or_until_it_is_asked_for() {
    let cluster = single().await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let mut bucket = Bucket::new();
    let mut work = writable(&cluster, &nodes[0], &mut bucket).await;
    let session = cluster.session().await;
    sealed_file(&cluster, &session, &nodes, "/m/f").await;
    cluster.clock.skip(Duration::from_secs(2));
    let asked = next(&mut work, put).await;
    let failed = v1::ImportFailed { message: "access denied".into(), permanent: true };
    nodes[0].report(asked.intent, Outcome::ObjectFailed(failed)).await.expect("reported");
    let told = figures(&cluster).await;
    assert_eq!((told.pending, told.failing, told.last_error.as_str()), (1, 1, "access denied"));
    // Who has the mount's directory read again wants to see it done.
    import_now(&cluster, "/m").await.expect("an intent");
    let again = next(&mut work, put).await;
    assert_ne!(again.intent, asked.intent);
    assert_eq!(again.key, asked.key);
    let failed = v1::ImportFailed { message: "access denied".into(), permanent: true };
    nodes[0].report(again.intent, Outcome::ObjectFailed(failed)).await.expect("reported");
    rename(&session, "/m/f", "/m/g").await;
    cluster.clock.skip(Duration::from_secs(2));
    let again = next(&mut work, put).await;
    assert_eq!(text(&again.key), "data/g");
    nodes[0].report(again.intent, written("\"g\"", 1000)).await.expect("reported");
    assert_eq!(figures(&cluster).await.pending, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_put_of_a_node_that_died_goes_to_another_one() {
    let policy = Policy { replicas: 2, min_replicas: 2, ..Policy::cluster() };
    let cluster = Cluster::with(policy, Duration::from_secs(2)).await;
    let nodes = FakeNode::start_all(&cluster, 2).await;
    let beats = async |which: Vec<usize>| {
        loop {
            for node in &which {
                nodes[*node].beat().await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let given = async {
        level_raised(&cluster).await;
        let session = cluster.session().await;
        add(&session, "/m", "data").await.expect("mounted");
        let mut streams = [nodes[0].pull().await, nodes[1].pull().await];
        let [first, second] = &mut streams;
        let probe = |piece| if let Work::ProbeMount(probe) = piece { Some(probe.intent) } else { None };
        let import = |piece| if let Work::Import(import) = piece { Some(import) } else { None };
        let (intent, by) = tokio::select! {
            intent = next(first, probe) => (intent, 0),
            intent = next(second, probe) => (intent, 1),
        };
        let probed = Outcome::MountProbed(v1::MountProbed { abilities: Some(able()) });
        nodes[by].report(intent, probed).await.expect("reported");
        assert!(cluster.list("/m", "", 0).await.is_err());
        let (import, by) = tokio::select! {
            import = next(first, import) => (import, 0),
            import = next(second, import) => (import, 1),
        };
        nodes[by].report(import.intent, page(&import, &Bucket::new())).await.expect("reported");
        sealed_file(&cluster, &session, &nodes, "/m/f").await;
        let (asked, other) = tokio::select! {
            asked = next(first, put) => (asked, 1),
            asked = next(second, put) => (asked, 0),
        };
        (asked, other, streams)
    };
    let (asked, other, mut streams) = tokio::select! {
        given = given => given,
        () = beats(vec![0, 1]) => unreachable!(),
    };
    cluster.clock.skip(Duration::from_secs(3));
    let again = tokio::select! {
        again = next(&mut streams[other], put) => again,
        () = beats(vec![other]) => unreachable!(),
    };
    assert_eq!((again.intent, &again.key, again.length), (asked.intent, &asked.key, asked.length));
    nodes[other].report(again.intent, written("\"f\"", 1000)).await.expect("reported");
    assert_eq!(figures(&cluster).await.pending, 0);
    // The one that was given up on ended it as well.
    nodes[1 - other]
        .report(asked.intent, written("\"f\"", 1000))
        .await
        .expect("a late report changes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_goes_on_with_what_the_old_one_had_begun() {
    let mut servers = three_by(Policy::single()).await;
    let first = leader(&mut servers, None).await;
    let mut bucket = bucket(["data/d/a", "data/d/b"]);
    let asked = {
        let old = &servers[first];
        let nodes = FakeNode::start_all(old, 1).await;
        let mut work = writable(old, &nodes[0], &mut bucket).await;
        let session = old.session().await;
        sealed_file(old, &session, &nodes, "/m/f").await;
        old.clock.skip(Duration::from_secs(2));
        let asked = next(&mut work, put).await;
        rename(&session, "/m/d", "/m/e").await;
        let to = old.request(v1::TransferLeaderRequest { to: 0 });
        old.meta.clone().transfer_leader(to).await.expect("handed over");
        asked
    };
    let second = leader(&mut servers, Some(first)).await;
    let new = &servers[second];
    // The same disk, at another address.
    let node = FakeNode::start(new, 1).await;
    let mut work = node.pull().await;
    let done = settle(new, &node, &mut work, &mut bucket).await;
    let keys: Vec<&str> = bucket.keys().map(String::as_str).collect();
    assert_eq!(keys, ["data/e/a", "data/e/b", "data/f"], "{done:?}");
    assert_eq!(bucket["data/f"].0, format!("\"{}\"", asked.intent), "it is the work that was begun");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_read_again_at_once_when_asked_for() {
    let cluster = single().await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let mut bucket = bucket(["data/x"]);
    let mut work = writable(&cluster, &nodes[0], &mut bucket).await;
    assert_eq!(cluster.names("/m").await, ["x"]);
    bucket.insert("data/y".into(), ("\"y\"".into(), 3));
    let asked = import_now(&cluster, "/m").await.expect("an intent");
    let read = |piece| if let Work::Import(import) = piece { Some(import) } else { None };
    let import = next(&mut work, read).await;
    assert_eq!(import.intent, asked);
    assert_eq!(import.access.as_ref().expect("an access").profile, "other");
    // A second call's listing begins after the first one's has ended.
    let second = tokio::spawn({
        let request = cluster.request(v1::ImportNowRequest { target: at("/m"), ..Default::default() });
        let mut meta = cluster.meta.clone();
        async move { meta.import_now(request).await.map(|reply| reply.into_inner().intent) }
    });
    nodes[0].report(asked, page(&import, &bucket)).await.expect("reported");
    let later = second.await.expect("joined").expect("an intent");
    assert_eq!(cluster.names("/m").await, ["x", "y"]);
    assert!(later >= asked);
    assert_eq!(import_now(&cluster, "/m/x").await, Err(FsError::NotDirectory.into()));
    let session = cluster.session().await;
    session.mutate(mkdir("/d")).await.expect("made");
    assert_eq!(import_now(&cluster, "/d").await, Err(FsError::NoSuchMount.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_with_changes_is_not_removed_unless_they_are_abandoned() {
    let cluster = single().await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let mut bucket = Bucket::new();
    let mut work = writable(&cluster, &nodes[0], &mut bucket).await;
    let session = cluster.session().await;
    sealed_file(&cluster, &session, &nodes, "/m/f").await;
    cluster.clock.skip(Duration::from_secs(2));
    let asked = next(&mut work, put).await;
    let remove = |abandon| Operation::MountRemove(v1::MountRemove { target: at("/m"), abandon });
    assert_eq!(session.mutate(remove(false)).await, Err(FsError::MountPending { pending: 1 }.into()));
    session.mutate(remove(true)).await.expect("removed");
    nodes[0].report(asked.intent, written("\"f\"", 1000)).await.expect("a late report changes nothing");
    let request = cluster.request(v1::ListMountsRequest::default());
    let mounts = cluster.meta.clone().list_mounts(request).await.expect("mounts").into_inner().mounts;
    assert_eq!(mounts, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_in_a_bucket_is_explained() {
    let cluster = single().await;
    let nodes = FakeNode::start_all(&cluster, 1).await;
    let mut bucket = Bucket::new();
    let mut work = writable(&cluster, &nodes[0], &mut bucket).await;
    let session = cluster.session().await;
    sealed_file(&cluster, &session, &nodes, "/m/f").await;
    cluster.clock.skip(Duration::from_secs(2));
    let asked = next(&mut work, put).await;
    let told = super::explain::explain(&cluster, "/m/f").await.expect("explained");
    let puts: Vec<_> = told.intents.iter().filter(|intent| intent.kind == "put").collect();
    let [told] = puts.as_slice() else { panic!("{:?}", told.intents) };
    assert_eq!((told.intent, told.key.as_str(), told.bytes), (asked.intent, "data/f", 1000));
    assert_eq!(told.assignee, nodes[0].id);
}
