//! [`Retries`]: mounts in which what failed for good is to be tried once more, since somebody asked for it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cairn_types::MountId;

/// How long after such a try the next one begins at the earliest: who has a whole mount read asks for each of its
/// directories.
const REST: Duration = Duration::from_secs(10);
/// Mounts that are remembered; there are never more.
const MOUNTS_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    waits: bool,
    /// When the last try began.
    began: Option<Duration>,
}

/// Who asked.
#[derive(Debug, Default)]
pub struct Retries {
    // Guards: nothing beyond the map itself. Never held across an await.
    asked: Mutex<BTreeMap<MountId, Asked>>,
}

impl Retries {
    fn asked(&self) -> std::sync::MutexGuard<'_, BTreeMap<MountId, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What failed in a mount is to be tried once more.
    pub fn ask(&self, mount: MountId) {
        let mut asked = self.asked();
        if asked.len() < MOUNTS_MAX || asked.contains_key(&mount) {
            asked.entry(mount).or_default().waits = true;
        }
    }

    /// True when a try is to begin now.
    pub fn take(&self, mount: MountId, now: Duration) -> bool {
        let mut asked = self.asked();
        let Some(known) = asked.get_mut(&mount).filter(|known| known.waits) else { return false };
        if known.began.is_some_and(|began| now.saturating_sub(began) < REST) {
            return false;
        }
        *known = Asked { waits: false, began: Some(now) };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_often_is_tried_now_and_then() {
        let (retries, mount) = (Retries::default(), MountId(1));
        assert!(!retries.take(mount, Duration::ZERO), "nobody asked");
        retries.ask(mount);
        retries.ask(mount);
        assert!(!retries.take(MountId(2), Duration::ZERO));
        assert!(retries.take(mount, Duration::ZERO));
        assert!(!retries.take(mount, 2 * REST), "it was asked for once");
        retries.ask(mount);
        assert!(retries.take(mount, 2 * REST));
        retries.ask(mount);
        assert!(!retries.take(mount, 3 * REST - Duration::from_millis(1)));
        assert!(retries.take(mount, 3 * REST), "it was not forgotten");
    }
}
