//! The clients: random operations, each asked again under its (session, sequence) until it is answered,
//! and reads that must be linearizable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn_types::{ClusterId, LogIndex, Policy, Sequence, SessionId, Timestamp};
use openraft::ReadPolicy;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};

use super::dice::Dice;
use super::executor::sleep;
use super::hub::{Hub, Running};
use super::ledger::{Acknowledged, Seen};
use crate::namespace::reply::Reply;
use crate::namespace::{Command, Entry, NamespaceError, Operation, Target, read};
use crate::raft::state::read_applied;
use crate::raft::types::Proposal;

pub const POLICY: Policy = Policy { replicas: 2, min_replicas: 1, ..Policy::cluster() };
const PATIENCE: Duration = Duration::from_millis(700);
const OPERATIONS_MAX: u64 = 150;

/// A server's word to a client.
enum Word<T> {
    Done(T),
    /// Ask that one, if it is known.
    Elsewhere(Option<u64>),
    /// It may have happened.
    Unknown,
}

/// One client.
pub struct Client {
    hub: Arc<Hub>,
    number: u64,
    leader: u64,
}

fn path(dice: &mut Dice) -> String {
    let name = |dice: &mut Dice| dice.one(&["a", "b", "c", "d"]);
    match dice.below(3) {
        0 => format!("{}/{}", name(dice), name(dice)),
        _ => name(dice).to_owned(),
    }
}

fn operation(dice: &mut Dice) -> Operation {
    let (first, second) = (Target::path(path(dice)), Target::path(path(dice)));
    let mode = 0o600 + dice.below(0o100) as u32;
    let (uid, gid) = (0, 0);
    match dice.below(16) {
        0..4 => Operation::Mkdir { target: first, mode, uid, gid, parents: dice.percent(20) },
        4..8 => {
            let (exclusive, truncate) = (dice.percent(50), dice.percent(30));
            Operation::Create { target: first, mode, uid, gid, exclusive, truncate, extents: Vec::new() }
        }
        8..11 => {
            let (no_replace, exchange) = (dice.percent(20), dice.percent(20));
            Operation::Rename { from: first, to: second, no_replace, exchange }
        }
        11 => Operation::Link { from: first, to: second },
        12 => Operation::Unlink { target: first },
        13 => Operation::Rmdir { target: first },
        _ => Operation::SetAttr {
            target: first,
            mode: Some(mode),
            uid: None,
            gid: None,
            size: None,
            mtime: None,
            atime: None,
            expected_version: None,
        },
    }
}

async fn write(hub: Arc<Hub>, running: Running, command: Command) -> Word<(u64, Reply)> {
    let time = Timestamp(hub.world.now().as_nanos() as i64);
    let proposal = Proposal(Entry { time, command }.to_bytes().into());
    match running.raft.client_write(proposal).await {
        Ok(done) => match done.data.0 {
            Some(reply) => Word::Done((done.log_id.index, reply)),
            None => Word::Unknown,
        },
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
            Word::Elsewhere(forward.leader_id)
        }
        Err(_) => Word::Unknown,
    }
}

/// The entry that a server must have applied to answer, as it says when it leads.
async fn read_index(running: &Running) -> Word<u64> {
    match running.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
        Ok(id) => Word::Done(id.index()),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
            Word::Elsewhere(forward.leader_id)
        }
        Err(_) => Word::Unknown,
    }
}

/// As the node does it: the leader confirms, here or there, and what it names is applied here.
async fn look(hub: Arc<Hub>, running: Running, path: String) -> Word<Seen> {
    let index = match read_index(&running).await {
        Word::Elsewhere(Some(leader)) => {
            let from = (running.life.server, leader);
            let asked = hub.ask(from, PATIENCE, |running| async move { read_index(&running).await }).await;
            match asked {
                Ok(Word::Done(index)) => index,
                _ => return Word::Unknown,
            }
        }
        Word::Done(index) => index,
        Word::Elsewhere(None) => return Word::Elsewhere(None),
        Word::Unknown => return Word::Unknown,
    };
    let mut applied = running.view.applied.clone();
    if applied.wait_for(|at| *at >= LogIndex(index)).await.is_err() {
        return Word::Unknown;
    }
    let Some(state) = running.view.current.get() else { return Word::Unknown };
    let rows = state.store().snapshot();
    let index = read_applied(&*rows).unwrap().applied.map_or(0, |id| id.index);
    let found = match read::stat(&*rows, &Target::path(path.as_str())) {
        Ok(stat) => Ok(stat.inode),
        Err(NamespaceError::Refused(error)) => Err(error),
        Err(fault) => panic!("{fault}"),
    };
    Word::Done(Seen { path, index, found })
}

impl Client {
    pub fn new(hub: Arc<Hub>, number: u64) -> Self {
        Self { hub, number, leader: 1 }
    }

    /// After a word that was no answer.
    async fn elsewhere(&mut self, leader: Option<u64>) {
        let servers = self.hub.all_running();
        let (pause, nth) = self.hub.world.roll(|dice| (dice.micros(5_000, 150_000), dice.word() as usize));
        let any = (!servers.is_empty()).then(|| servers[nth % servers.len()].0);
        self.leader = leader.or(any).unwrap_or(self.leader);
        sleep(pause).await;
    }

    /// Has `command` done, once or, if it has no sequence, at least once.
    async fn done(&mut self, command: Command) -> (u64, Reply) {
        loop {
            let (hub, command) = (Arc::clone(&self.hub), command.clone());
            let asked = self.hub.ask((0, self.leader), PATIENCE, move |running| {
                write(Arc::clone(&hub), running, command.clone())
            });
            match asked.await {
                Ok(Word::Done(done)) => return done,
                Ok(Word::Elsewhere(leader)) => self.elsewhere(leader).await,
                Ok(Word::Unknown) | Err(_) => self.elsewhere(None).await,
            }
        }
    }

    async fn write(&mut self, session: SessionId, sequence: u64) {
        let operation = self.hub.world.roll(operation);
        let shown = format!("{operation:?}");
        let sequence = Sequence(sequence);
        let command = Command::Request { session, sequence, acknowledged_below: sequence, operation };
        let (index, reply) = self.done(command).await;
        let outcome = reply.as_ref().map_or_else(|error| format!("{error:?}"), |_| "done".to_owned());
        let (client, number) = (self.number, sequence.0);
        self.hub.world.tell(|| format!("client {client} #{number} at {index}: {shown}: {outcome}"));
        let mut pages = self.hub.ledger.pages();
        pages.floor = pages.floor.max(index);
        pages.acknowledged.push(Acknowledged { session: session.0, sequence: sequence.0, index, reply });
    }

    async fn read(&mut self) {
        let path = self.hub.world.roll(path);
        // From whichever server.
        self.elsewhere(None).await;
        let floor = self.hub.ledger.pages().floor;
        let hub = Arc::clone(&self.hub);
        let asked = self
            .hub
            .ask((0, self.leader), PATIENCE, move |running| look(Arc::clone(&hub), running, path.clone()));
        let Ok(Word::Done(seen)) = asked.await else { return };
        if seen.index < floor {
            let what =
                format!("a read of server {} shows entry {}, {floor} was known", self.leader, seen.index);
            self.hub.ledger.fault(what);
        }
        let mut pages = self.hub.ledger.pages();
        pages.floor = pages.floor.max(seen.index);
        pages.seen.push(seen);
    }

    /// Works until the faults are over, and has asked some things then.
    pub async fn run(mut self, over: Arc<AtomicBool>) {
        if self.number == 1 {
            let cluster = ClusterId([7; 16]);
            let (index, made) = self.done(Command::InitCluster { cluster, policy: POLICY }).await;
            made.unwrap();
            self.hub.ledger.pages().floor = index;
        }
        // As a server, which serves nobody before the cluster has its identity.
        while self.hub.ledger.pages().floor == 0 {
            sleep(Duration::from_millis(20)).await;
        }
        let (index, opened) = self.done(Command::OpenSession { client: self.number.to_string() }).await;
        let session = opened.unwrap().session.unwrap();
        self.hub.world.tell(|| format!("client {} has session {} at {index}", self.number, session.0));
        let mut sequence = 0;
        while sequence < 10 || (sequence < OPERATIONS_MAX && !over.load(Ordering::Relaxed)) {
            let (reads, pause) = self.hub.world.roll(|dice| (dice.percent(30), dice.micros(100, 60_000)));
            if reads {
                self.read().await;
            } else {
                sequence += 1;
                self.write(session, sequence).await;
            }
            sleep(pause).await;
        }
    }
}
