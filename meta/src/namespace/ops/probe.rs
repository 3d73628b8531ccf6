//! CreateProbe, MountProbed: what a mount's endpoint can do.

use cairn_types::{FsError, IntentId, MountId, NodeId};

use crate::keys::intents::Work;
use crate::keys::mount_modes::EndpointAbilities;
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::reply::Answer;
use crate::namespace::state::State;

/// Makes the intent, or answers the one under way. One that failed for good gives way to another.
pub fn create(state: &mut State<'_, '_>, mount: MountId, assignee: NodeId) -> Outcome<Answer> {
    let (Some(record), Some(mut mode)) = (state.mount(mount)?, state.mount_mode(mount)?) else {
        return refuse(FsError::NoSuchMount);
    };
    if let Some(known) = state.unfinished(mode.probe)? {
        return Ok(Answer { intent: Some(known.intent), ..Answer::default() });
    }
    state.end_failed(mode.probe)?;
    let work = Work::ProbeMount { mount, prefix: record.source.prefix, write: mode.rules.writable };
    let intent = state.new_intent(assignee, work);
    mode.probe = Some(intent);
    state.put_mount_mode(mount, mode)?;
    Ok(Answer { intent: Some(intent), ..Answer::default() })
}

/// Takes in what was found.
pub fn probed(
    state: &mut State<'_, '_>,
    intent: IntentId,
    abilities: &EndpointAbilities,
) -> Outcome<Answer> {
    let record = state.intent(intent)?;
    let Work::ProbeMount { mount, .. } = &record.work else { return refuse(FsError::InvalidRequest) };
    if record.failed {
        return refuse(FsError::InvalidRequest);
    }
    state.end_object_intent(&record)?;
    let Some(mut mode) = state.mount_mode(*mount)? else { return Ok(Answer::default()) };
    if mode.probe == Some(intent) {
        mode.probe = None;
        mode.refused = abilities.refusal(&mode.rules).to_owned();
        mode.abilities = Some(*abilities);
        state.put_mount_mode(*mount, mode)?;
    }
    Ok(Answer { mount: Some(*mount), ..Answer::default() })
}
