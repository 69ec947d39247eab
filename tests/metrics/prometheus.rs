//! What the exporter for Prometheus makes of it.

use metrics::with_local_recorder;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use zset_semaphore::Client;
use zset_semaphore::metrics::BUCKETS;

#[tokio::test(start_paused = true)]
async fn with_the_buckets_all_histograms_are_histograms_and_have_help() {
    let mut builder = PrometheusBuilder::new();
    for (name, buckets) in BUCKETS {
        builder = builder.set_buckets_for_metric(Matcher::Full((*name).into()), buckets).unwrap();
    }
    let recorder = builder.build_recorder();
    let jobs = with_local_recorder(&recorder, || {
        Client::in_memory().semaphore("jobs", 4).build().unwrap()
    });
    let permit = jobs.acquire(3).await.unwrap();
    drop(jobs.acquire(1).await.unwrap());
    let page = recorder.handle().render();
    for line in [
        "# TYPE zsem_wait_seconds histogram",
        "# TYPE zsem_held_seconds histogram",
        "# TYPE zsem_turn_seconds histogram",
        "# TYPE zsem_turn_ids histogram",
        "# HELP zsem_held_units Units that this process holds.",
        "zsem_held_units{semaphore=\"jobs\"} 3",
        "zsem_held_seconds_bucket{semaphore=\"jobs\",end=\"released\",le=\"3600\"} 1",
        "zsem_lost_total{semaphore=\"jobs\",reason=\"kicked\"} 0",
        "zsem_turn_ids_bucket{le=\"256\"} 3",
    ] {
        assert!(page.lines().any(|there| there == line), "no line {line} in\n{page}");
    }
    assert!(!page.contains("summary") && !page.contains("quantile"), "{page}");
    drop(permit);
}
