//! Work `ProbeMount`: what a mounted bucket's endpoint can do, tried.

use cairn_proto::v1;
use cairn_proto::v1::report_work_request::Outcome;
use cairn_types::SystemRandom;

use super::Worker;
use super::mounted::failed;
use crate::objects::probe;

impl Worker {
    /// Finds out what a bucket's endpoint can do.
    pub(super) async fn probe_mount(&self, work: &v1::ProbeMount) -> Outcome {
        let store = match self.mounted(work.bucket.as_ref()) {
            Ok(store) => store,
            Err(error) => return failed(&error),
        };
        let found = probe(store.as_ref(), &work.prefix, work.write, &SystemRandom).await;
        match found {
            Ok(abilities) => Outcome::MountProbed(v1::MountProbed { abilities: Some(abilities) }),
            Err(error) => failed(&error.into()),
        }
    }
}
