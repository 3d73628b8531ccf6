//! The invariants of one chunk.

use super::decide::decision;
use super::fence::answer;
use super::setup::{OneChunk, Policy};
use super::state::{Chunk, Replica, Round, State};
use crate::invariant::Invariant;
use crate::log::Log;

/// The first invariant that this state breaks.
pub(super) fn broken(model: &OneChunk, state: &State) -> Option<Invariant> {
    let promised = !model.beyond_promise;
    let sealed = state.chunk == Chunk::Sealed;
    let checks = [
        (state.decided_twice, Invariant::DecidedOnce),
        (promised && sealed && !acknowledged_in(state, state.sealed), Invariant::AcknowledgedInsideSeal),
        (promised && sealed && !state.seen.begins(state.sealed), Invariant::ReaderSeesOnlySealed),
        (sealed && state.sealed.len() < state.heard_at_seal, Invariant::NeverBelowHeard),
        (sealed && !holders_hold(model, state), Invariant::HoldersHold),
        (sealed && !enough_holders(model, state), Invariant::EnoughHolders),
        (sealed && !learned_exactly(model, state), Invariant::SealedExactly),
        (promised && !recoverable(model, state), Invariant::AcknowledgedRecoverable),
        (promised && !decidable(model, state), Invariant::StaysDecidable),
        (diverged(model, state), Invariant::NoDivergence),
        (twice(model, state), Invariant::OnceOnly),
    ];
    checks.into_iter().find(|(is_broken, _)| *is_broken).map(|(_, invariant)| invariant)
}

fn replicas<'a>(model: &OneChunk, state: &'a State) -> &'a [Replica] {
    &state.replicas[..model.replicas]
}

/// Every acknowledged value lies in this content, at the offset its writer was told.
fn acknowledged_in(state: &State, content: Log) -> bool {
    (1..=3)
        .zip(state.acknowledged)
        .all(|(value, told)| told == 0 || content.get(told - 1).is_some_and(|record| record.value == value))
}

/// Before the seal some replica, after it some holder, has all that was acknowledged. When a
/// fault took safe bytes from every one of them, more went wrong than is promised for.
fn recoverable(model: &OneChunk, state: &State) -> bool {
    let sealed = state.chunk == Chunk::Sealed;
    let counts = |at: usize| !sealed || state.holders >> at & 1 == 1;
    let kept = || replicas(model, state).iter().enumerate().filter(|(at, _)| counts(*at));
    let fresh = sealed && state.fresh_holds;
    let spared = fresh || kept().any(|(_, replica)| !replica.lossy);
    !spared
        || (fresh && acknowledged_in(state, state.fresh))
        || kept().any(|(_, replica)| acknowledged_in(state, replica.valid()))
}

/// R5: if every replica were fenced now, by a leader that makes no mistake, it could decide.
fn decidable(model: &OneChunk, state: &State) -> bool {
    let all = replicas(model, state);
    let proof = model.policy == Policy::Fsync || all.iter().any(|replica| !replica.limbo);
    if state.chunk != Chunk::Sealing || !proof {
        return true;
    }
    let right = OneChunk { mutation: None, ..*model };
    let mut round = Round::default();
    for (at, replica) in all.iter().enumerate() {
        let drained = Replica { safe: replica.log.len(), ..*replica };
        round.answers[at] = Some(answer(&right, state, at, &drained));
    }
    decision(&right, &round).is_some()
}

/// R5: a holder has all of the content with its chain, safe. Exempt is who lost a tail since it
/// answered, and who was rotten in a planned roll, where nobody reads anything back.
fn holders_hold(model: &OneChunk, state: &State) -> bool {
    let held = |replica: &Replica| {
        let exempt = replica.lossy && (replica.rot == 0 || model.closes);
        exempt || (state.sealed.begins(replica.valid()) && replica.safe >= state.sealed.len())
    };
    let counted = replicas(model, state).iter().enumerate();
    counted.filter(|(at, _)| state.holders >> at & 1 == 1).all(|(_, replica)| held(replica))
        && (!state.fresh_holds || state.sealed.begins(state.fresh))
}

/// R5: what is sealed lies on so many nodes that one disk can be lost.
fn enough_holders(model: &OneChunk, state: &State) -> bool {
    let fresh = if state.fresh_holds { u32::from(model.fresh) } else { 0 };
    state.holders.count_ones() + fresh >= model.holders_min
}

/// R5, R8: after learning of it a replica has the content or nothing.
fn learned_exactly(model: &OneChunk, state: &State) -> bool {
    replicas(model, state)
        .iter()
        .all(|replica| !replica.learned || replica.log.is_empty() || replica.log == state.sealed)
}

/// R2: two replicas of which neither begins with the other.
fn diverged(model: &OneChunk, state: &State) -> bool {
    let all = replicas(model, state);
    all.iter().enumerate().any(|(at, one)| {
        all[at + 1..].iter().any(|other| {
            let (one, other) = (one.valid(), other.valid());
            !one.begins(other) && !other.begins(one)
        })
    })
}

/// R2, R10: a replica that has a value twice.
fn twice(model: &OneChunk, state: &State) -> bool {
    replicas(model, state).iter().any(|replica| {
        let mut met = 0_u8;
        replica.log.records().any(|record| {
            let again = met >> record.value & 1 == 1;
            met |= 1 << record.value;
            again
        })
    })
}
