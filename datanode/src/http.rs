//! The HTTP side: /metrics for Prometheus, /healthz and /readyz for whoever starts the node.

use std::sync::OnceLock;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the recorder folds its samples, so that its memory stays bounded.
const UPKEEP: Duration = Duration::from_secs(5);

/// The process's Prometheus recorder, installed at the first call. `None` when another part of
/// the process installed one before: then that part serves the numbers of this one too.
pub fn recorder() -> Option<&'static PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    RECORDER.get_or_init(|| PrometheusBuilder::new().install_recorder().ok()).as_ref()
}

/// Serves until `stop`. `ready` is true while the metadata leader knows this node.
///
/// # Errors
/// The listener's failure.
pub async fn serve(
    listener: TcpListener,
    ready: watch::Receiver<bool>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let readyz = move || {
        let ready = *ready.borrow();
        async move { readiness(ready) }
    };
    let router = Router::new()
        .route("/metrics", get(render))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz));
    let upkeep = fold_samples(stop.clone());
    let server = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    tokio::join!(async { server.await }, upkeep).0
}

fn readiness(ready: bool) -> (StatusCode, &'static str) {
    if ready {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the metadata leader does not know this node\n")
    }
}

async fn render() -> (StatusCode, String) {
    match recorder() {
        Some(handle) => (StatusCode::OK, handle.render()),
        None => (StatusCode::NOT_FOUND, "another role of this process serves the metrics\n".to_owned()),
    }
}

async fn fold_samples(stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(UPKEEP)).await.is_some() {
        if let Some(handle) = recorder() {
            handle.run_upkeep();
        }
    }
}
