use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use ::metrics::with_local_recorder;

use super::harness::Harness;
use crate::metrics::ClientMeter;

/// A state whose metrics go to a recorder.
fn metered() -> (PrometheusRecorder, Harness) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let meter = with_local_recorder(&recorder, || ClientMeter::new().of("jobs"));
    let mut harness = Harness::new(4);
    harness.state.set_meter(&meter);
    (recorder, harness)
}

fn shows(recorder: &PrometheusRecorder, gauge: &str, value: u32) {
    let (rendered, line) = (recorder.handle().render(), format!("{gauge}{{semaphore=\"jobs\"}}"));
    let shown = rendered.lines().find_map(|it| it.strip_prefix(&line)).unwrap();
    assert_eq!(shown.trim(), value.to_string(), "{gauge}");
}

#[tokio::test(start_paused = true)]
async fn a_reply_moves_the_gauges_and_nothing_does_after_the_end() {
    let (recorder, mut harness) = metered();
    let _hold = harness.hold();
    shows(&recorder, "zsem_held_units", 1);
    shows(&recorder, "zsem_in_use_units", 1);
    shows(&recorder, "zsem_limit_units", 4);
    harness.state.end();
    harness.state.show();
    shows(&recorder, "zsem_held_units", 0);
    shows(&recorder, "zsem_in_use_units", 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_replicas_shows_until_it_has_them_without_a_turn() {
    let (recorder, mut harness) = metered();
    let _hold = harness.hold();
    harness.state.replicating();
    harness.state.replicating();
    shows(&recorder, "zsem_waiters", 2);
    harness.state.replicating_ended();
    shows(&recorder, "zsem_waiters", 1);
    harness.state.replicating_ended();
    shows(&recorder, "zsem_waiters", 0);
    shows(&recorder, "zsem_held_units", 1);
}
