//! Ends sessions whose lease is over, and sees to it that every session has one.

use std::sync::Arc;
use std::time::Duration;

use cairn_types::SessionId;

use super::rows;
use super::tenure::{JobFault, Refused, Tenure};
use super::turns::Turns;
use crate::namespace::Command;

/// Sessions ended in one turn, at most.
const PER_TURN: usize = 256;
/// Entries that one session's end may take in one turn, at most.
const STEPS_MAX: usize = 64;
/// How often the state's sessions are compared with the leases.
const ADOPT: Duration = Duration::from_secs(10);

/// Runs until the tenure ends.
pub async fn run(tenure: Arc<Tenure>) {
    let mut turns = Turns::new(&tenure, "sessions", Duration::from_secs(1));
    // The tenure began with a lease for each.
    let mut adopted = tenure.clock.boottime();
    while turns.next_of_any().await {
        let now = tenure.clock.boottime();
        if now.saturating_sub(adopted) >= ADOPT {
            turns.ended(adopt(&tenure).await);
            adopted = now;
        }
        for session in tenure.leases.overdue(PER_TURN) {
            turns.ended(expire(&tenure, session).await);
        }
        metrics::gauge!("cairn_meta_sessions_count").set(tenure.leases.count() as f64);
    }
}

/// Begins the lease of sessions that have none: their opening was committed after its deadline.
async fn adopt(tenure: &Arc<Tenure>) -> Result<(), JobFault> {
    let view = tenure.local()?;
    let read = move || rows::sessions(&*view.store);
    for session in tokio::task::spawn_blocking(read).await?? {
        tenure.leases.adopt(session);
    }
    Ok(())
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
