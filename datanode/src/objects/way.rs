//! [`Way`]: how an object is written.

use std::ops::Range;
use std::sync::Arc;

use super::ObjectError;
use super::order::{Order, Source};
use super::plan::{CopyFrom, LIMITS, Plan, PlannedPart, Stretch, plan};
use crate::understore::{Condition, SourceVersion};

/// Bytes of an object that one request copies, at most: S3's limit.
const COPY_BYTES_MAX: u64 = 5 << 30;

/// How an object is written.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// By one request that the endpoint copies it with.
    Copy(Arc<SourceVersion>),
    /// By one request that its bytes go with.
    Whole,
    /// In parts, some of which the endpoint copies from these sources.
    Parts { plan: Plan, sources: Vec<Arc<SourceVersion>> },
}

impl Way {
    /// The way that sends the least.
    pub(super) fn of(order: &Order) -> Result<Self, ObjectError> {
        let can = &order.terms.abilities;
        let by_parts = can.copy_source_if_match && can.part_copy;
        if let Some(version) = order.is_copy_of().filter(|_| can.copy_source_if_match && order.length > 0) {
            let small = order.length <= COPY_BYTES_MAX;
            let conditional = match order.condition {
                Condition::Absent => can.copy_if_absent,
                Condition::Version(_) => can.copy_if_match,
                Condition::Unchecked => false,
            };
            if small && (conditional || (order.terms.sole_writer && !by_parts)) {
                return Ok(Self::Copy(Arc::clone(version)));
            }
        }
        let (stretches, sources) = stretches(order, by_parts);
        let planned = plan(&stretches)?;
        if planned.copied() >= LIMITS.part_min {
            return Ok(Self::Parts { plan: planned, sources });
        }
        if order.length <= LIMITS.send_max {
            return Ok(Self::Whole);
        }
        let plan = plan(&[Stretch { length: order.length, copied: None }])?;
        Ok(Self::Parts { plan, sources: Vec::new() })
    }

    /// What the endpoint must look at, for this condition; empty: it does.
    pub(super) fn lacks(&self, order: &Order, condition: &Condition) -> Option<&'static str> {
        let can = &order.terms.abilities;
        let (looks, what) = match (self, condition) {
            (_, Condition::Unchecked) => return None,
            (Self::Copy(_), Condition::Absent) => (can.copy_if_absent, "copy to a key only if it is free"),
            (Self::Copy(_), Condition::Version(_)) => (can.copy_if_match, "copy over a given version only"),
            (Self::Whole, Condition::Absent) => (can.put_if_absent, "write a key only if it is free"),
            (Self::Whole, Condition::Version(_)) => (can.put_if_match, "replace a given version only"),
            (Self::Parts { .. }, Condition::Absent) => {
                (can.complete_if_absent, "complete an upload only if the key is free")
            }
            (Self::Parts { .. }, Condition::Version(_)) => {
                (can.complete_if_match, "complete an upload over a given version only")
            }
        };
        (!looks).then_some(what)
    }

    /// Bytes that go to the endpoint, and bytes that it copies.
    pub(super) fn bytes(&self, order: &Order) -> (u64, u64) {
        match self {
            Self::Copy(_) => (0, order.length),
            Self::Whole => (order.length, 0),
            Self::Parts { plan, .. } => (plan.sent(), plan.copied()),
        }
    }

    /// The ranges of the object that are sent.
    pub(super) fn sent(&self, order: &Order) -> Vec<Range<u64>> {
        match self {
            Self::Copy(_) => Vec::new(),
            Self::Whole => std::iter::once(0..order.length).collect(),
            Self::Parts { plan, .. } => {
                let sent = plan.parts.iter().filter_map(|part| match part {
                    PlannedPart::Send(range) => Some(range.clone()),
                    PlannedPart::Copy { .. } => None,
                });
                sent.collect()
            }
        }
    }

    /// True when bytes are copied from what is at `key`.
    pub(super) fn copies_from(&self, key: &str) -> bool {
        match self {
            Self::Copy(version) => version.key == key,
            Self::Whole => false,
            Self::Parts { sources, .. } => sources.iter().any(|source| source.key == key),
        }
    }
}

/// The object's runs, and the sources that they name.
fn stretches(order: &Order, copies: bool) -> (Vec<Stretch>, Vec<Arc<SourceVersion>>) {
    let (mut stretches, mut sources) =
        (Vec::with_capacity(order.pieces.len()), Vec::<Arc<SourceVersion>>::new());
    for piece in &order.pieces {
        let copied = match &piece.source {
            Source::Object { version, offset } if copies => {
                let (small, entire) = (version.size <= LIMITS.part_min, piece.length == version.size);
                let known = sources.iter().rposition(|source| source == version);
                let source = known.unwrap_or_else(|| {
                    sources.push(Arc::clone(version));
                    sources.len() - 1
                });
                Some(CopyFrom { source, offset: *offset, whole: small }).filter(|_| !small || entire)
            }
            _ => None,
        };
        stretches.push(Stretch { length: piece.length, copied });
    }
    (stretches, sources)
}
