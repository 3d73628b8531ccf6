//! The model's unlinked files: for each the sessions that may hold it and have not said, and those that
//! do.

use std::collections::{BTreeMap, BTreeSet};

use cairn_meta::namespace::command::HoldAnswer;
use cairn_types::{FileKind, Policy};

use super::Model;

/// A file without a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unlinked {
    pub since: u64,
    /// Were there when it was unlinked, and have neither denied it nor ended.
    pub silent: BTreeSet<u64>,
    pub holders: BTreeSet<u64>,
}

#[derive(Clone, Debug, Default)]
pub struct Holding {
    /// The entry at work.
    pub index: u64,
    /// Sessions that say what they hold, with the number of their last answer.
    pub speakers: BTreeMap<u64, u64>,
    pub unlinked: BTreeMap<u64, Unlinked>,
    /// Files of trees that are removed whole are spoken for too.
    pub whole: bool,
    /// What the session that asks says that it holds.
    pub claim: Option<(u64, BTreeSet<u64>)>,
    pub met: Met,
}

/// How much was met on the way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Met {
    /// Files that were kept without a name, and those that went at once since who asked was alone.
    pub kept: u64,
    pub at_once: u64,
    /// Answers that said that a file is held; files that went by an answer or the end of a session.
    pub held: u64,
    pub gone: u64,
    /// Changes of files without a name.
    pub changed: u64,
}

impl Model {
    /// True when the file that loses its last name now may be open somewhere.
    fn may_be_open(&self, ino: u64) -> bool {
        let Holding { speakers, claim, .. } = &self.holding;
        let denies = |session: u64| {
            claim.as_ref().is_some_and(|(claims, inos)| *claims == session && !inos.contains(&ino))
        };
        match speakers.len() {
            0 => false,
            1 => !speakers.keys().all(|session| denies(*session)),
            _ => true,
        }
    }

    /// An inode has lost its last name, where `policy` was in force.
    pub(super) fn nameless(&mut self, ino: u64, policy: Policy, spoken_for: bool) {
        let is_file = self.see(ino).kind == FileKind::File && spoken_for;
        if !is_file || !self.may_be_open(ino) {
            let Holding { speakers, met, .. } = &mut self.holding;
            met.at_once += u64::from(is_file && !speakers.is_empty());
            return self.vanish(ino);
        }
        self.holding.met.kept += 1;
        let silent = self.holding.speakers.keys().copied().collect();
        let since = self.holding.index;
        self.holding.unlinked.insert(ino, Unlinked { since, silent, holders: BTreeSet::new() });
        self.changed(ino);
        let inode = self.inode(ino);
        (inode.nlink, inode.policy) = (0, Some(policy));
    }

    fn vanish(&mut self, ino: u64) {
        self.seal_tail(ino);
        self.writers.retain(|(file, _), _| *file != ino);
        self.nodes.remove(&ino);
    }

    /// What nobody holds, and nobody may, is gone.
    fn sweep(&mut self) {
        let free = |file: &Unlinked| file.silent.is_empty() && file.holders.is_empty();
        let gone: Vec<u64> =
            self.holding.unlinked.iter().filter(|(_, f)| free(f)).map(|(ino, _)| *ino).collect();
        for ino in gone {
            self.holding.unlinked.remove(&ino);
            self.holding.met.gone += 1;
            self.vanish(ino);
        }
    }

    pub fn deny(&mut self, answer: &HoldAnswer) {
        let (session, index) = (answer.session.0, self.holding.index);
        let Some(number) = self.holding.speakers.get_mut(&session).filter(|n| **n < answer.number) else {
            return;
        };
        *number = answer.number;
        let upto = answer.upto.0.min(index);
        for (ino, file) in &mut self.holding.unlinked {
            if answer.released.iter().any(|released| released.0 == *ino) {
                file.holders.remove(&session);
            }
            if file.since <= upto
                && file.silent.remove(&session)
                && answer.held.iter().any(|held| held.0 == *ino)
            {
                file.holders.insert(session);
                self.holding.met.held += 1;
            }
        }
        self.sweep();
    }

    /// A session is over: it holds nothing.
    pub(super) fn fall_silent(&mut self, session: u64) {
        self.holding.speakers.remove(&session);
        for file in self.holding.unlinked.values_mut() {
            file.silent.remove(&session);
            file.holders.remove(&session);
        }
        self.sweep();
    }
}
