//! One trace id for all that is slow of an operation: in the client's log, the primary's and a secondary's.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cairn_sdk::{Client, ConnectOptions, TraceId, Transport, traced};
use cairn_tests::cluster::{Cluster, ClusterOptions, eventually};
use futures::future::{join_all, try_join_all};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

const LOG: &str = "/log";
const SOON: Duration = Duration::from_secs(60);
/// Of each kind a log has five lines in a second.
const BETWEEN: Duration = Duration::from_millis(300);

/// What the clients of this process tell of what was slow.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<u8>>>);

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Told {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Told {
    /// The one of this process, written from now on.
    fn open() -> &'static Self {
        static TOLD: OnceLock<Told> = OnceLock::new();
        TOLD.get_or_init(|| {
            let told = Self::default();
            let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(told.clone());
            let slow = filter_fn(|metadata| metadata.target() == "cairn_sdk::slow");
            let subscriber = tracing_subscriber::registry().with(lines.with_filter(slow));
            tracing::subscriber::set_global_default(subscriber).expect("no other test sets one");
            told
        })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

fn has(text: &str, line: &str, trace: TraceId) -> bool {
    text.lines().any(|told| told.contains(line) && told.contains(&trace.to_string()))
}

/// How many data nodes tell this of the operation.
fn nodes(cluster: &Cluster, line: &str, trace: TraceId) -> usize {
    let text = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    cluster.datas.iter().filter(|data| has(&text(data.log_path()), line, trace)).count()
}

async fn one_id_everywhere(transport: Transport) {
    let told = Told::open();
    let data_toml =
        format!("transport = \"{}\"\nslow_operation_ms = 1\n", format!("{transport:?}").to_lowercase());
    let cluster = Cluster::start(ClusterOptions { data_toml, ..ClusterOptions::default() }).await.unwrap();
    let connect = ConnectOptions::new(cluster.meta_addresses());
    let connect = ConnectOptions { transport, slow_operation: Some(Duration::from_millis(1)), ..connect };
    let client = Client::connect(connect).await.unwrap();
    let appender = client.open_append(LOG).await.unwrap();
    let tries = AtomicU64::new(0);
    // Eight mebibytes at once: the last of them waits longer than a millisecond, in the end.
    let append = || async {
        let trace = TraceId(0xa99e_0000 + tries.fetch_add(1, Ordering::Relaxed));
        let work = async {
            let mut under_way = Vec::new();
            for _ in 0..8 {
                under_way.push(appender.submit(vec![7; 1 << 20]).await.unwrap().offset());
            }
            try_join_all(under_way).await.unwrap();
        };
        traced(trace, work).await;
        tokio::time::sleep(BETWEEN).await;
        let everywhere = has(&told.text(), "slow append", trace)
            && nodes(&cluster, "slow append", trace) == 1
            && nodes(&cluster, "slow record of a replica", trace) >= 1;
        everywhere.then_some(())
    };
    eventually("a slow append in three logs", SOON, append).await.unwrap();
    let file = client.open(LOG).await.unwrap();
    let read = || async {
        let trace = TraceId(0x4ead_0000 + tries.fetch_add(1, Ordering::Relaxed));
        let work = join_all((0..16).map(|_| file.read_at(0, 8 << 20)));
        assert!(traced(trace, work).await.into_iter().all(|read| read.unwrap().len() == 8 << 20));
        tokio::time::sleep(BETWEEN).await;
        let both = has(&told.text(), "slow read", trace) && nodes(&cluster, "slow read", trace) >= 1;
        both.then_some(())
    };
    eventually("a slow read in two logs", SOON, read).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_slow_is_told_by_client_primary_and_secondary_with_one_id_in_frames() {
    one_id_everywhere(Transport::Auto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_slow_is_told_by_client_primary_and_secondary_with_one_id_by_grpc() {
    one_id_everywhere(Transport::Grpc).await;
}
