//! [`Bucket::shared`]: one SeaweedFS for all tests of a process, and a new bucket for each.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use super::bucket::Bucket;
use super::janitor::Janitor;
use super::{READY_DEADLINE, S3Server, S3ServerError};

/// Started by the first test that asks. Nothing in it lives on that test's runtime, which ends with
/// the test: a process, a directory and a pipe.
static SHARED: OnceCell<Shared> = OnceCell::const_new();

struct Shared {
    /// Never dropped. Its process is bound to ours, and a thread that outlives all tests started it
    /// (`spawn_bound_to_this_process`): the kernel kills it when we end, however that is.
    server: S3Server,
    buckets_made: AtomicU64,
    /// Removes what the server leaves.
    _janitor: Janitor,
}

impl Bucket {
    /// A new, empty bucket of the server that all tests of this process share. It is gone with the
    /// process.
    ///
    /// For tests that leave the server itself alone. One that kills, stops or restarts it starts its
    /// own by [`S3Server::seaweed`].
    ///
    /// # Errors
    /// See [`S3ServerError`]. The next call tries to start the server again.
    pub async fn shared() -> Result<Self, S3ServerError> {
        let shared = SHARED.get_or_try_init(Shared::start).await?;
        let number = shared.buckets_made.fetch_add(1, Ordering::Relaxed);
        let bucket = shared.server.named(&format!("cairn-test-{number}"));
        let (client, started) = (bucket.client(), Instant::now());
        while let Err(last) = bucket.try_out(&client).await {
            let waited = started.elapsed();
            if waited > READY_DEADLINE {
                return Err(shared.server.not_ready(waited, last));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(bucket)
    }
}

impl Shared {
    async fn start() -> Result<Self, S3ServerError> {
        let directory = tempfile::Builder::new()
            .prefix("cairn-s3-")
            .tempdir()
            .map_err(failed("make a directory in", &std::env::temp_dir()))?;
        let mut janitor = Janitor::start().map_err(failed("start", Path::new("sh")))?;
        let mut will_remove = |path: &Path| janitor.will_remove(path).map_err(failed("list", path));
        will_remove(directory.path())?;
        let server = S3Server::seaweed(directory.path()).await?;
        for socket in server.sockets() {
            will_remove(&socket)?;
        }
        // It serves: from here on the janitor alone removes the directory.
        let _ = directory.keep();
        Ok(Self { server, buckets_made: AtomicU64::new(0), _janitor: janitor })
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> S3ServerError {
    let path = path.to_owned();
    move |source| S3ServerError::Io { action, path, source }
}
