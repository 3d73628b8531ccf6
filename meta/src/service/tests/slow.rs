//! What is slow is told in the log, with the trace id that the client gave.

use std::io::Write;
use std::sync::{Mutex, OnceLock, PoisonError};

use cairn_proto::trace::TraceId;
use cairn_types::Random;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

use super::*;

/// Lines about slow requests of all tests of this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    /// The one of this process, written from now on.
    fn open() -> &'static Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self::default();
            let lines = tracing_subscriber::fmt::layer().json().with_writer(log.clone());
            let slow = filter_fn(|metadata| metadata.target() == "cairn_meta::slow");
            let subscriber =
                tracing_subscriber::registry().with(tracing_subscriber::Layer::with_filter(lines, slow));
            tracing::subscriber::set_global_default(subscriber).expect("no other test sets one");
            log
        })
    }

    /// The fields of the line about this trace, if it was written.
    fn line(&self, trace: TraceId) -> Option<serde_json::Value> {
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let text = String::from_utf8(text).expect("text");
        let line = text.lines().find(|line| line.contains(&trace.to_string()))?;
        Some(serde_json::from_str::<serde_json::Value>(line).expect("a line of JSON")["fields"].clone())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_request_is_told_with_the_clients_trace_its_session_and_its_path() {
    let log = Log::open();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let members = BTreeMap::from([(NodeId(1), address.to_string())]);
    let manner = Manner {
        policy: Policy::cluster(),
        heartbeat_ms: 100,
        election_ms: (300, 600),
        node_timeout: Duration::from_secs(3),
        // Every request takes longer.
        slow_operation: Some(Duration::ZERO),
        repair_bytes_per_second: None,
    };
    let mut cluster = Cluster::serve(NodeId(1), members, listener, manner).await;
    cluster.id = eventually("the server leads", async || cluster.led().await).await;
    let session = cluster.session().await;
    session.mutate(mkdir("/d")).await.expect("made");
    // There are so many lines a second and no more: it is asked until there is room for its own.
    let asked = async |trace: TraceId| {
        let mut stat = cluster.request(v1::StatRequest {
            target: at("/d"),
            session: session.id,
            ..v1::StatRequest::default()
        });
        trace.stamp(&mut stat);
        cluster.meta.clone().stat(stat).await.expect("found");
        cluster.clock.skip(Duration::from_millis(300));
        log.line(trace)
    };
    let line = eventually("a line about the stat", async || asked(TraceId(0x57a7)).await).await;
    assert_eq!(line["message"], "slow request");
    assert_eq!((&line["what"], &line["path"]), (&"Stat".into(), &"/d".into()), "{line}");
    assert_eq!((&line["session"], &line["trace"]), (&session.id.into(), &"00000000000057a7".into()));
    let changed = async |trace: TraceId| {
        let sequence = session.sequence.fetch_add(1, Ordering::Relaxed);
        let mut make = cluster.request(session.request(sequence, mkdir(&format!("/d/{sequence}"))));
        trace.stamp(&mut make);
        cluster.meta.clone().mutate(make).await.expect("made");
        cluster.clock.skip(Duration::from_millis(300));
        log.line(trace).filter(|line| line["sequence"].as_u64() == Some(sequence))
    };
    let line = eventually("a line about the change", async || {
        // A trace of its own each time: the first line about it is looked at.
        changed(TraceId(SystemRandom.next_u64())).await
    })
    .await;
    assert_eq!((&line["what"], &line["session"]), (&"Mutate".into(), &session.id.into()), "{line}");
    assert!(line["took_ms"].is_u64() && line["left_out"].is_u64(), "{line}");
}
