//! [`Alarm`]: a primary's timer.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::Sleep;

/// One timer that rings once, set again only when it is not set: arming it costs nothing on the
/// way of each append.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    strikes: u32,
}

impl Alarm {
    pub(super) fn set(&mut self, after: Duration) {
        if self.sleep.is_none() {
            self.sleep = Some(Box::pin(tokio::time::sleep(after)));
        }
    }

    pub(super) fn clear(&mut self) {
        self.sleep = None;
    }

    pub(super) async fn rings(&mut self) {
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().await,
            None => std::future::pending().await,
        }
    }

    /// Counts a ring without progress; an error above `patience` of them.
    pub(super) fn strike(&mut self, patience: u32) -> Result<(), ()> {
        self.strikes += 1;
        if self.strikes > patience { Err(()) } else { Ok(()) }
    }
}
