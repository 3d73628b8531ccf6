//! What takes bytes away: restart, loss of a tail or of the power, rot (R5, R6, R7).

use super::Steps;
use super::setup::{OneChunk, Policy};
use super::state::{Chunk, State};
use super::step::Step;
use crate::mutation::Mutation;

pub(super) fn steps(model: &OneChunk, state: &State, out: &mut Steps) {
    for at in 0..model.replicas {
        if state.crashes < model.crashes {
            restart(model, state, at, out);
        }
        if state.losses < model.losses {
            loss(model, state, at, out);
        }
        if state.rots < model.rots {
            rot(state, at, out);
        }
    }
}

/// The process dies and starts again: all that was safe is there, and any part of the rest.
/// Under `fsync` this is a loss of power too.
fn restart(model: &OneChunk, state: &State, at: usize, out: &mut Steps) {
    let replica = &state.replicas[at];
    for kept in replica.safe..=replica.log.len() {
        if let Some(mut next) = restarted(model, state, at, kept) {
            next.crashes += 1;
            next.replicas[at].limbo |= model.policy == Policy::Fsync;
            out.push((Step::Restart(at, kept), next));
        }
    }
}

/// Safe bytes are gone: a disk lost its tail (`fsync`), or the power went (`memory`).
fn loss(model: &OneChunk, state: &State, at: usize, out: &mut Steps) {
    let replica = &state.replicas[at];
    let all_kept = u8::from(model.policy == Policy::Memory);
    for kept in 0..replica.log.len() + all_kept {
        let Some(mut next) = restarted(model, state, at, kept) else { continue };
        next.losses += 1;
        next.replicas[at].limbo = !(model.has(Mutation::SpareStaysClean) && kept == 0);
        next.replicas[at].lossy = true;
        out.push((Step::Loss(at, kept), next));
        if kept == 0 && model.late_creates {
            next.replicas[at].created = false;
            next.replicas[at].fenced = false;
            out.push((Step::LossOfAll(at), next));
        }
    }
}

/// R6: it fences itself, syncs what it kept, and never goes on. What it heard is what the
/// records it kept had heard. A bad last record, with nothing after it, is cut, which makes it
/// limbo whatever the policy; one further down stays, and the replica is damaged.
fn restarted(model: &OneChunk, state: &State, at: usize, kept: u8) -> Option<State> {
    let mut next = *state;
    let replica = &mut next.replicas[at];
    if replica.learned {
        return None;
    }
    replica.log = replica.log.prefix(kept);
    if replica.rot == kept {
        replica.log = replica.valid();
        replica.limbo |= replica.rot > 0 && !model.has(Mutation::CutStaysClean);
    }
    if replica.rot > replica.log.len() {
        replica.rot = 0;
    }
    let synced = !model.has(Mutation::RecoveryNotSynced);
    replica.safe = if synced { replica.log.len() } else { replica.safe.min(replica.log.len()) };
    replica.heard = replica.log.records().map(|record| record.header).max().unwrap_or(0);
    replica.restarted = true;
    let forgets = model.has(Mutation::FenceNotDurable)
        || (at == 0 && model.has(Mutation::PrimaryGoesOn) && !replica.fenced);
    replica.fenced = !forgets;
    if model.has(Mutation::SpareStaysClean) && replica.log.is_empty() {
        replica.restarted = false;
        replica.fenced = false;
    }
    Some(next)
}

/// One safe record goes bad, unnoticed until the fence reads it back or the node restarts.
/// A replica that has answered already is left alone: what rots later is for scrub and repair.
fn rot(state: &State, at: usize, out: &mut Steps) {
    let replica = &state.replicas[at];
    if replica.fenced || replica.rot != 0 || state.chunk == Chunk::Sealed {
        return;
    }
    for record in 0..replica.safe {
        let mut next = *state;
        next.rots += 1;
        next.replicas[at].rot = record + 1;
        next.replicas[at].lossy = true;
        out.push((Step::Rot(at, record), next));
    }
}
