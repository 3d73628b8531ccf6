//! RaiseLevel and Probe: what the log may hold, and an entry that changes nothing.

use cairn_types::{FeatureLevel, FsError};

use crate::keys::levels::{self, ClusterLevel};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::reply::Answer;
use crate::namespace::state::State;

/// Raises the cluster's level; one that is as high changes nothing.
pub fn raise(state: &mut State<'_, '_>, to: FeatureLevel) -> Outcome<Answer> {
    if to < FeatureLevel::FIRST {
        return refuse(FsError::InvalidRequest);
    }
    let known: ClusterLevel = state.get(levels::KEY)?.unwrap_or_default();
    if known.level < to {
        state.put(levels::KEY.to_vec(), &ClusterLevel { level: to });
    }
    Ok(Answer::default())
}

/// Changes nothing, but for the state's time.
pub fn probe() -> Outcome<Answer> {
    Ok(Answer::default())
}
