//! Ends sessions whose lease is over.

use std::sync::Arc;
use std::time::Duration;

use cairn_types::SessionId;

use super::tenure::{JobFault, Refused, Tenure};
use super::turns::Turns;
use crate::namespace::Command;

/// Sessions ended in one turn, at most.
const PER_TURN: usize = 256;
/// Entries that one session's end may take in one turn, at most.
const STEPS_MAX: usize = 64;

/// Runs until the tenure ends.
pub async fn run(tenure: Arc<Tenure>) {
    let mut turns = Turns::new(&tenure, "sessions", Duration::from_secs(1));
    while turns.next().await {
        for session in tenure.leases.overdue(PER_TURN) {
            turns.ended(expire(&tenure, session).await);
        }
        metrics::gauge!("cairn_meta_sessions_count").set(tenure.leases.count() as f64);
    }
}

/// Expires one session, in as many entries as its rows take.
async fn expire(tenure: &Tenure, session: SessionId) -> Result<(), JobFault> {
    for _ in 0..STEPS_MAX {
        match tenure.propose(Command::ExpireSession { session }).await {
            Ok(answer) if answer.session.is_some() => {}
            // Refused: it was closed or expired already.
            Ok(_) | Err(Refused::Fs(_)) => {
                tracing::info!(%session, "the session has expired");
                metrics::counter!("cairn_meta_sessions_expired_total").increment(1);
                tenure.leases.forget(session);
                tenure.stir();
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
