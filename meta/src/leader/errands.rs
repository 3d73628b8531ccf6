//! [`Errands`]: the intents of one kind that a job has made and looks after: work that writes something
//! again, and that may come to nothing. They hold nothing, so that giving one up costs what it wrote.

use std::sync::Arc;
use std::time::Duration;

use cairn_types::IntentId;

use super::board::WorkKey;
use super::tenure::{JobFault, Tenure};
use crate::keys::RowFault;
use crate::keys::intents::{IntentRecord, Work};
use crate::namespace::{Command, jobs, read};
use crate::store::Rows;

/// How long one may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(600);
/// Intents read in one step.
const PAGE: usize = 1024;

/// The unfinished intents of a kind.
pub struct Errands {
    is_mine: fn(&Work) -> bool,
    /// `None`: those of an earlier tenure are still to be found.
    current: Option<Vec<Errand>>,
    /// When the next one may begin.
    not_before: Duration,
}

struct Errand {
    intent: IntentId,
    since: Duration,
}

impl Errands {
    /// Those of the kind that `is_mine` tells.
    #[must_use]
    pub fn of(is_mine: fn(&Work) -> bool) -> Self {
        Self { is_mine, current: None, not_before: Duration::ZERO }
    }

    /// True when the next one may begin: none is under way, and the bytes of the last have had their time.
    #[must_use]
    pub fn may_begin(&self, now: Duration) -> bool {
        self.current.as_ref().is_some_and(Vec::is_empty) && now >= self.not_before
    }

    /// Takes one in that was just made, and that writes so many bytes again; the next one waits as long as they
    /// take at `bytes_per_second`. Its node hears of it.
    pub fn begun(&mut self, tenure: &Tenure, intent: Option<IntentId>, bytes: u64, bytes_per_second: u64) {
        let now = tenure.clock.boottime();
        let pause_ms = bytes.saturating_mul(1000) / bytes_per_second.max(1);
        self.not_before = now.saturating_add(Duration::from_millis(pause_ms));
        if let Some(intent) = intent {
            self.current.get_or_insert_default().push(Errand { intent, since: now });
        }
        tenure.stir();
    }

    /// Forgets what has ended, and ends what comes to nothing. Answers the work of those that took too long.
    ///
    /// # Errors
    /// [`JobFault`]; they are all found anew then.
    pub async fn look_after(&mut self, tenure: &Arc<Tenure>) -> Result<Vec<Work>, JobFault> {
        let now = tenure.clock.boottime();
        let current = match self.current.take() {
            Some(current) => current,
            None => {
                let (view, is_mine) = (tenure.local()?, self.is_mine);
                let found = tokio::task::spawn_blocking(move || under_way(&*view.store, is_mine)).await??;
                found.into_iter().map(|intent| Errand { intent, since: now }).collect()
            }
        };
        let (mut left, mut too_long) = (Vec::new(), Vec::new());
        for errand in current {
            let view = tenure.local()?;
            let Some(record) = read::intent(&*view.store, errand.intent)? else { continue };
            let failed = tenure.board.failures(record.assignee, WorkKey::Intent(record.intent)) > 0;
            let late = now.saturating_sub(errand.since) > PATIENCE;
            let Some(command) = ends(&*view.store, &record, failed, late)? else {
                left.push(errand);
                continue;
            };
            tracing::warn!(intent = %record.intent, ?command, "what was to be written again comes to nothing");
            if tenure.try_propose(command).await?.is_some() {
                tenure.board.done(record.assignee, WorkKey::Intent(record.intent));
            }
            if late {
                too_long.push(record.work);
            }
        }
        self.current = Some(left);
        Ok(too_long)
    }
}

/// How one is ended that comes to nothing; `None` while it may come to something.
fn ends(
    rows: &dyn Rows,
    record: &IntentRecord,
    failed: bool,
    late: bool,
) -> Result<Option<Command>, RowFault> {
    let intent = record.intent;
    if failed && jobs::is_in_vain(rows, &record.work)? {
        return Ok(Some(Command::CancelUpload { intent }));
    }
    let message = "it took too long".to_owned();
    Ok(late.then_some(Command::FailIntent { intent, permanent: true, message }))
}

/// Those of an earlier tenure.
fn under_way(rows: &dyn Rows, is_mine: fn(&Work) -> bool) -> Result<Vec<IntentId>, RowFault> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = jobs::intents(rows, after, PAGE)?;
        let Some(last) = page.last() else { return Ok(found) };
        after = Some(last.intent);
        found.extend(page.iter().filter(|record| is_mine(&record.work)).map(|record| record.intent));
    }
}
