//! How a primary judges replicas that are over their deadline (rule R3).

use std::time::Duration;

use super::alarm::Alarm;
use super::primary::{Closing, End, Primary};
use super::seal::Reason;

/// How long a chunk rests before its secondaries are told the committed length without an append.
const HINT_AFTER: Duration = Duration::from_millis(25);
/// A replica may be this many times over its deadline while this node's own disk is no faster.
const PATIENCE: u32 = 20;

impl Primary {
    /// Sets the alarm for what must happen if nothing else does.
    pub(super) fn arm(&self, alarm: &mut Alarm) {
        if !self.waiting.is_empty() || matches!(self.closing, Closing::Sent) {
            alarm.set(self.context.deadline);
        } else if self.told < self.committed() {
            alarm.set(HINT_AFTER);
        }
    }

    /// Judges slow replicas; tells the committed length to secondaries that rest.
    pub(super) fn alarm(&mut self, alarm: &mut Alarm) -> Result<(), End> {
        alarm.clear();
        if self.waiting.is_empty() && !matches!(self.closing, Closing::Sent) {
            self.hint();
            return Ok(());
        }
        let deadline = self.context.deadline;
        let now = self.context.clock.boottime();
        let Some(oldest) = self.waiting.front() else {
            // The close record has no ticket that tells its age: its alarms are counted.
            return alarm.strike(PATIENCE).map_err(|()| self.slowest(Reason::Close));
        };
        let age = now.saturating_sub(oldest.since);
        if age < deadline {
            alarm.set(deadline.saturating_sub(age));
            return Ok(());
        }
        let own = self.members.first().map_or(0, |own| own.durable);
        // No replica is slower than this node's own disk: a seal without it would not help yet.
        let own_is_slow = own < oldest.end;
        let patient = age < deadline.saturating_mul(PATIENCE);
        let slowest = self.members.iter().min_by_key(|member| member.durable).map(|member| member.node);
        let healthier =
            slowest.is_some_and(|node| self.context.healthy.suffice_without(node, self.min_replicas));
        let seal_helps = !own_is_slow && healthier;
        if patient && !(seal_helps && self.context.seals.may_give_up(self.ino, now)) {
            return Ok(());
        }
        Err(self.slowest(Reason::Slow))
    }

    fn slowest(&self, reason: Reason) -> End {
        let slowest = self.members.iter().min_by_key(|member| (member.durable, member.closed));
        let blame = slowest.map(|member| member.node);
        tracing::warn!(chunk = self.chunk.0, ?blame, "a replica is over its deadline");
        End::Trouble { reason, blame }
    }
}
