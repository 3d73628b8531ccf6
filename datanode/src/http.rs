//! The HTTP side: /metrics for Prometheus, /healthz and /readyz for whoever starts the node.

use std::sync::OnceLock;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::standing::Standings;

/// How often the recorder folds its samples, so that its memory stays bounded.
const UPKEEP: Duration = Duration::from_secs(5);

/// The process's Prometheus recorder, installed at the first call. `None` when another part of
/// the process installed one before: then that part serves the numbers of this one too.
pub fn recorder() -> Option<&'static PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    RECORDER.get_or_init(|| PrometheusBuilder::new().install_recorder().ok()).as_ref()
}

/// Serves until `stop`. The process is ready while the metadata leader knows one of its disks; both answers name the
/// disks that are not in use or take no more writes.
///
/// # Errors
/// The listener's failure.
pub async fn serve(
    listener: TcpListener,
    standings: Standings,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let of_health = standings.clone();
    let healthz = move || {
        let lives = format!("ok\n{}", of_health.troubles());
        async move { lives }
    };
    let readyz = move || {
        let ready = readiness(&standings);
        async move { ready }
    };
    let router = Router::new()
        .route("/metrics", get(render))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz));
    let upkeep = fold_samples(stop.clone());
    let server = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    tokio::join!(async { server.await }, upkeep).0
}

fn readiness(standings: &Standings) -> (StatusCode, String) {
    let troubles = standings.troubles();
    if standings.is_ready() {
        (StatusCode::OK, format!("ready\n{troubles}"))
    } else {
        let said = format!("the metadata leader does not know this node\n{troubles}");
        (StatusCode::SERVICE_UNAVAILABLE, said)
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
