use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ::metrics::{
    Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};

use crate::metrics::semaphore::{Instruments, Meter};
use crate::metrics::state::StateMeter;

/// Counts how often its gauges are moved.
#[derive(Default)]
struct Moves(Arc<AtomicU32>);

struct Moved(Arc<AtomicU32>);

impl Moved {
    fn note(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl GaugeFn for Moved {
    fn increment(&self, _: f64) {
        self.note();
    }
    fn decrement(&self, _: f64) {
        self.note();
    }
    fn set(&self, _: f64) {
        self.note();
    }
}

impl Recorder for Moves {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(Moved(Arc::clone(&self.0))))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn a_meter_that_is_set_again_moves_no_gauge() {
    let moves = Moves::default();
    let meter_of = |name: &str| Meter(Some(Arc::new(Instruments::new(&Arc::from(name)))));
    let [meter, other] = with_local_recorder(&moves, || ["jobs", "other"].map(meter_of));
    let moved = || moves.0.swap(0, Ordering::SeqCst);
    let mut state = StateMeter::default();
    state.set(&meter);
    state.told(3, 2, 4);
    state.show(1);
    assert_eq!(moved(), 4);
    state.set(&meter);
    assert_eq!(moved(), 0);
    state.set(&other);
    assert_eq!(moved(), 8);
    drop(state);
    assert_eq!(moved(), 4);
}
