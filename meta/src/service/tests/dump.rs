//! Dumps and loads over gRPC: one point in time out, step by step into another cluster.

use cairn_proto::v1::load_request::Step;
use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{ChunkId, FsError, Policy};

use super::data_node::FakeNode;
use super::{Cluster, LONG, at, create, mkdir};
use crate::dump::DumpReader;

impl Cluster {
    async fn open_dump(&self) -> Result<tonic::Streaming<v1::DumpBatch>, WireError> {
        Ok(self.meta.clone().dump(self.request(v1::DumpRequest {})).await?.into_inner())
    }

    async fn dumped(&self) -> Result<Vec<u8>, WireError> {
        let mut stream = self.open_dump().await?;
        let mut lines = Vec::new();
        loop {
            let batch = stream.message().await?.expect("a last message");
            lines.extend_from_slice(&batch.lines);
            if batch.done {
                assert!(stream.message().await?.is_none(), "nothing after the last one");
                return Ok(lines);
            }
        }
    }

    async fn step(&self, step: Step) -> Result<v1::LoadReply, WireError> {
        let request = self.request(v1::LoadRequest { step: Some(step) });
        Ok(self.meta.clone().load(request).await?.into_inner())
    }

    async fn look(&self) -> v1::LoadReply {
        self.step(Step::Look(v1::LoadLook {})).await.expect("it is told")
    }
}

/// A dump as its steps carry it.
struct Dumped {
    load: v1::LoadId,
    header: Vec<u8>,
    facts: Vec<String>,
}

impl Dumped {
    fn new(dump: &[u8]) -> Self {
        let mut reader = DumpReader::open(dump).expect("a header");
        while reader.next_line().expect("a whole dump").is_some() {}
        let id = reader.id();
        let load = v1::LoadId {
            cluster_id: id.cluster.0.to_vec().into(),
            log_index: id.log_index.0,
            facts: id.facts,
            crc32c: id.crc32c,
        };
        let text = String::from_utf8(dump.to_vec()).expect("text");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.pop();
        let header = lines.remove(0).into_bytes();
        Self { load, header, facts: lines }
    }

    fn begin(&self) -> Step {
        Step::Begin(v1::LoadBegin { load: Some(self.load.clone()), header: self.header.clone().into() })
    }

    fn lines(&self, first: usize, count: usize, accept_loss: bool) -> Step {
        let lines = self.facts[first..first + count].join("\n").into();
        let (load, first) = (Some(self.load.clone()), first as u64);
        Step::Lines(v1::LoadLines { load, first, lines, accept_loss })
    }

    fn end(&self) -> Step {
        Step::End(v1::LoadEnd { load: Some(self.load.clone()) })
    }
}

fn fs(refused: Result<impl std::fmt::Debug, WireError>) -> FsError {
    match refused.expect_err("it is refused") {
        WireError::Fs(error) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_is_loaded_into_another_cluster_step_by_step() {
    let from = Cluster::start().await;
    let session = from.session().await;
    session.mutate(mkdir("/a")).await.expect("made");
    for n in 0..1000 {
        session.mutate(create(&format!("/a/{n}"))).await.expect("made");
    }
    let dump = from.dumped().await.expect("dumped");
    let dumped = Dumped::new(&dump);
    assert_eq!(dumped.load.facts, 1002);
    assert_eq!(fs(from.step(dumped.begin()).await), FsError::NotEmpty);

    let to = Cluster::start().await;
    let writer = to.session().await;
    let look = to.look().await;
    assert!(look.empty && look.load.is_none(), "{look:?}");
    assert_eq!(fs(to.step(dumped.lines(0, 1, false)).await), FsError::NotFound);
    let begun = to.step(dumped.begin()).await.expect("begun");
    assert_eq!((begun.load.as_ref(), begun.loaded), (Some(&dumped.load), 0));
    assert_eq!(fs(writer.mutate(mkdir("/x")).await), FsError::Loading);
    assert_eq!(fs(to.dumped().await), FsError::Loading);
    // More than one entry's worth, and again as after a lost answer.
    for _ in 0..2 {
        assert_eq!(to.step(dumped.lines(0, 900, false)).await.expect("loaded").loaded, 900);
    }
    assert_eq!(fs(to.step(dumped.end()).await), FsError::InvalidRequest, "facts are missing");
    assert_eq!(to.step(dumped.begin()).await.expect("gone on with").loaded, 900);
    to.step(dumped.lines(900, 102, false)).await.expect("loaded");
    assert_eq!(to.step(dumped.end()).await.expect("ended").load, None);
    assert_eq!(to.names("/a").await.len(), 1000);
    assert_eq!(from.inode("/a/7").await, to.inode("/a/7").await);
    let again = Dumped::new(&to.dumped().await.expect("dumped"));
    assert_eq!(again.facts, dumped.facts);
    writer.mutate(mkdir("/x")).await.expect("clients may again");
    assert!(to.inode("/x").await.ino > from.inode("/a/999").await.ino, "ids go on behind those of the dump");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_broke_off_says_so_and_is_taken_out() {
    let from = Cluster::start().await;
    let session = from.session().await;
    session.mutate(mkdir("/a")).await.expect("made");
    let dumped = Dumped::new(&from.dumped().await.expect("dumped"));
    let to = Cluster::start().await;
    to.step(dumped.begin()).await.expect("begun");
    to.step(dumped.lines(0, 1, false)).await.expect("loaded");
    let look = to.look().await;
    assert_eq!((look.load, look.loaded, look.discarding), (Some(dumped.load.clone()), 1, false));
    let other = v1::LoadId { crc32c: 1, ..dumped.load.clone() };
    let begin = v1::LoadBegin { load: Some(other), header: dumped.header.clone().into() };
    assert_eq!(fs(to.step(Step::Begin(begin)).await), FsError::Loading);
    assert_eq!(to.step(Step::Discard(v1::LoadDiscard {})).await.expect("taken out").load, None);
    assert_eq!(fs(to.step(Step::Discard(v1::LoadDiscard {})).await), FsError::NotFound);
    let session = to.session().await;
    session.mutate(mkdir("/mine")).await.expect("clients may again");
    assert_eq!(to.names("/").await, ["mine"]);
    let missing = to.step(Step::Begin(v1::LoadBegin::default())).await;
    let field = "load".to_owned();
    assert_eq!(missing, Err(WireError::Service(ServiceError::Malformed { field })));
}

/// A file whose bytes are in a chunk that was never persisted, and its chunk.
async fn unpersisted(cluster: &Cluster) -> u64 {
    let nodes = FakeNode::start_all(cluster, 1).await;
    let session = cluster.session().await;
    let ino = session.create("/f").await.ino;
    let chunk = session.open_tail(ino, 1).await.expect("a tail").chunk;
    nodes[0].hold(chunk, 1000, 0);
    cluster.seal(chunk, LONG).await.expect("sealed");
    chunk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_that_no_data_node_here_has_is_loaded_only_as_an_accepted_loss() {
    let policy = Policy { persist: cairn_types::Persist::Never, ..Policy::single() };
    let from = Cluster::with(policy, LONG).await;
    let chunk = unpersisted(&from).await;
    let dumped = Dumped::new(&from.dumped().await.expect("dumped"));
    let all = dumped.facts.len();

    // A cluster that knows the same disk reads it there.
    let same = Cluster::with(policy, LONG).await;
    let _nodes = FakeNode::start_all(&same, 1).await;
    same.step(dumped.begin()).await.expect("begun");
    same.step(dumped.lines(0, all, false)).await.expect("loaded");
    same.step(dumped.end()).await.expect("ended");
    let found = same.chunk(chunk).await.expect("known");
    assert_eq!((found.length, found.replicas.len()), (1000, 1));

    let other = Cluster::with(policy, LONG).await;
    other.step(dumped.begin()).await.expect("begun");
    let refused = other.step(dumped.lines(0, all, false)).await;
    let lost = ServiceError::NothingLeft { chunk: ChunkId(chunk) };
    assert_eq!(refused, Err(WireError::Service(lost)));
    assert_eq!(other.look().await.loaded, 0, "nothing of it is loaded");
    other.step(dumped.lines(0, all, true)).await.expect("loaded");
    other.step(dumped.end()).await.expect("ended");
    let found = other.chunk(chunk).await.expect("known");
    assert_eq!((found.length, found.replicas.len()), (0, 0));
    let request = other.request(v1::ExtentsRequest { target: at("/f"), length: 1000, ..Default::default() });
    let extents = other.meta.clone().extents(request).await.expect("told").into_inner().extents;
    assert_eq!((extents.len(), extents[0].length), (1, 1000), "it is no hole: a read says that it fails");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_ends_with_its_client_and_there_is_one_at_a_time() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    // More lines than wait for a client that does not read them.
    for n in 0..200 {
        let to = vec![b'x'; 4000].into();
        let target = at(&format!("/{n}"));
        let symlink = v1::Symlink { target, to, ..Default::default() };
        session.mutate(Operation::Symlink(symlink)).await.expect("made");
    }
    let unread = cluster.open_dump().await.expect("begun");
    drop(unread);
    let whole = super::eventually("the first one ends", async || cluster.dumped().await.ok()).await;
    assert_eq!(Dumped::new(&whole).load.facts, 201);
}
