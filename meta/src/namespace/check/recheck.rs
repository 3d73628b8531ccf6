//! [`is_so`]: whether what was found is so still, where a few lookups tell.

use super::counts::Tally;
use super::look::Look;
use super::{CheckBounds, Finding, chunks, holds, intents, mounts, sessions};
use crate::store::{Rows, StoreFault};

/// True when a finding of these kinds is so: queues, held chunks, spares, what waits for intents, intents,
/// objects and imports of mounts, replies of nobody, writers, holders
/// of unlinked files. False for all other kinds.
pub(in crate::namespace) fn is_so(rows: &dyn Rows, finding: &Finding) -> Result<bool, StoreFault> {
    let (mut findings, mut tally) = (Vec::new(), Tally::default());
    let bounds = CheckBounds::default();
    let look = Look { rows, bounds, findings: &mut findings, tally: &mut tally, scanned: 0 };
    match finding {
        Finding::MissingQueueRow { .. }
        | Finding::StrayQueueRow { .. }
        | Finding::MissingHeld { .. }
        | Finding::StrayHeld { .. }
        | Finding::HeldForNobody { .. }
        | Finding::StraySpare { .. }
        | Finding::LostSpare { .. }
        | Finding::UploadGone { .. }
        | Finding::DeletionGone { .. } => chunks::is_so(&look, finding),
        Finding::StrayKey { .. } | Finding::StrayImport { .. } => mounts::is_so(&look, finding),
        Finding::ForgottenOrphan { .. } | Finding::WrongDenial { .. } | Finding::StrayHold { .. } => {
            holds::is_so(&look, finding)
        }
        Finding::StrayIntent { intent } => intents::is_stray(&look, *intent),
        _ => sessions::is_so(&look, finding),
    }
}
