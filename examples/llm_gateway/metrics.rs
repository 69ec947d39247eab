//! `GET /metrics`, for Prometheus, with the feature `metrics`.

use axum::Router;
use tokio::task::JoinSet;

use crate::common::Result;

/// Installs the recorder of the process, and returns the route that exports what it has recorded.
///
/// It comes before the first client: a client looks for a recorder once, when it is made.
#[cfg(feature = "metrics")]
pub(crate) fn routes(background: &mut JoinSet<()>) -> Result<Router> {
    use std::time::Duration;

    use axum::http::header::CONTENT_TYPE;
    use axum::routing::get;
    use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
    use tokio::time::interval;
    use zset_semaphore::metrics::BUCKETS;

    let mut recorder = PrometheusBuilder::new();
    // Without buckets, the exporter makes summaries, which cannot be added up over processes.
    for (name, buckets) in BUCKETS {
        recorder = recorder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)?;
    }
    let recorded = recorder.install_recorder()?;

    // Histograms gather what is recorded until somebody asks. Nobody may.
    let upkeep = recorded.clone();
    background.spawn(async move {
        let mut ticks = interval(Duration::from_secs(5));
        loop {
            ticks.tick().await;
            upkeep.run_upkeep();
        }
    });
    let text = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok(Router::new().route("/metrics", get(async move || (text, recorded.render()))))
}

#[cfg(not(feature = "metrics"))]
#[expect(clippy::unnecessary_wraps, reason = "as with the feature")]
pub(crate) fn routes(_: &mut JoinSet<()>) -> Result<Router> {
    Ok(Router::new())
}
