//! The way to S3: put, read back, record, evict (R12).

use super::Steps;
use super::setup::Repair;
use super::state::{Object, State};
use super::step::Step;
use crate::mutation::Mutation;

pub(super) fn steps(model: &Repair, state: &State, out: &mut Steps) {
    if !model.persists {
        return;
    }
    for at in 0..model.nodes() {
        put(model, state, at, out);
        evict(model, state, at, out);
    }
    if state.object == Object::Bad && !state.persisted {
        out.push((Step::Rename, State { object: Object::Absent, ..*state }));
    }
    // R12: only what was read back and compared is recorded.
    let compared = state.object == Object::Good;
    let unread = model.has(Mutation::PersistedUnread) && state.object == Object::Bad;
    if !state.persisted && (compared || unread) {
        out.push((Step::Persist, State { persisted: true, ..*state }));
    }
}

/// R12: If-None-Match. A holder reads back what it sends, so that the content is what it sends; a
/// second one finds the object and changes nothing.
fn put(model: &Repair, state: &State, at: usize, out: &mut Steps) {
    let node = &state.nodes[at];
    let free = state.object == Object::Absent || model.has(Mutation::PutOverwrites);
    if !free || !node.holder || !node.settled || node.rot != 0 {
        return;
    }
    if state.object != Object::Good {
        out.push((Step::Put(at, true), State { object: Object::Good, ..*state }));
    }
    if state.bad_puts < model.bad_puts {
        let mut next = *state;
        next.object = Object::Bad;
        next.bad_puts += 1;
        out.push((Step::Put(at, false), next));
    }
}

/// R12: evictable once the log has recorded the object, not once it was sent.
fn evict(model: &Repair, state: &State, at: usize, out: &mut Steps) {
    let node = &state.nodes[at];
    let early = model.has(Mutation::EvictBeforeRecorded) && state.object != Object::Absent;
    if node.present && (state.persisted || early) {
        let mut next = *state;
        next.nodes[at] = node.emptied();
        out.push((Step::Evict(at), next));
    }
}
