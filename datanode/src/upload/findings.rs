//! [`Findings`]: what the probe found out about the packs' under-store, for those who wait for it.

use tokio::sync::watch;

use crate::understore::Capabilities;

/// What is known of an under-store, at once or once its probe has answered. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Findings {
    found: watch::Receiver<Option<Capabilities>>,
}

impl Findings {
    /// They are known already.
    #[must_use]
    pub fn known(capabilities: Capabilities) -> Self {
        let (_, found) = watch::channel(Some(capabilities));
        Self { found }
    }

    /// They are not known yet: whoever has the sender tells them, and may tell others later.
    #[must_use]
    pub fn pending() -> (watch::Sender<Option<Capabilities>>, Self) {
        let (tell, found) = watch::channel(None);
        (tell, Self { found })
    }

    /// Waits until they are known; `None` when nobody will tell them any more.
    pub async fn wait(&self) -> Option<Capabilities> {
        let mut found = self.found.clone();
        let known = found.wait_for(Option::is_some).await.ok()?;
        *known
    }
}
