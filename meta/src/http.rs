//! The HTTP side: `/metrics`, `/healthz`, `/readyz`.

use std::sync::OnceLock;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use cairn_types::LogIndex;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::node::Node;

static METRICS: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Gives the process's metrics to this crate; a process that runs several roles installs one
/// recorder and shares its handle. Without this, the first `/metrics` here installs one.
///
/// Returns false when there was one already.
pub fn share_metrics(handle: PrometheusHandle) -> bool {
    METRICS.set(Some(handle)).is_ok()
}

/// Installs a recorder unless one was shared or installed.
pub(crate) fn install_metrics() {
    METRICS.get_or_init(|| match PrometheusBuilder::new().install_recorder() {
        Ok(handle) => Some(handle),
        Err(error) => {
            tracing::warn!(%error, "another recorder has the process's metrics: /metrics is empty here");
            None
        }
    });
}

async fn metrics_text(State(node): State<Node>) -> Result<String, StatusCode> {
    // RocksDB takes its mutex for some of them. A task that broke off leaves the figures of before.
    let _ = tokio::task::spawn_blocking(move || node.sample_metrics()).await;
    let handle = METRICS.get().and_then(Option::as_ref).ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
    handle.run_upkeep();
    Ok(handle.render())
}

/// How long a leader may be silent, or without a majority, before this server is not ready.
const LED_WITHIN: Duration = Duration::from_secs(5);

/// Ready: there is a leader with a majority, and the state holds a cluster.
fn is_ready(node: &Node) -> bool {
    node.is_led(LED_WITHIN) && node.status().applied > LogIndex(0) && node.cluster_id().is_some()
}

async fn readiness(State(node): State<Node>) -> (StatusCode, &'static str) {
    if node.is_removed() {
        (StatusCode::SERVICE_UNAVAILABLE, "this server was removed from the group\n")
    } else if is_ready(&node) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "no leader has a majority, or the cluster is not made yet\n")
    }
}

/// Serves until `stop`.
///
/// # Errors
/// The listener's.
pub async fn serve(listener: TcpListener, node: Node, stop: CancellationToken) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .with_state(node);
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}
