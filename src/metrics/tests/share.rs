use std::sync::{Arc, Mutex};

use ::metrics::{Gauge, GaugeFn};

use crate::metrics::share::Share;

/// A gauge that a test reads.
#[derive(Default)]
struct Level(Mutex<f64>);

impl GaugeFn for Level {
    fn increment(&self, value: f64) {
        assert!(value > 0.0, "moved by {value}");
        *self.0.lock().unwrap() += value;
    }
    fn decrement(&self, value: f64) {
        assert!(value > 0.0, "moved by {value}");
        *self.0.lock().unwrap() -= value;
    }
    fn set(&self, _: f64) {
        panic!("others have shares, too");
    }
}

#[test]
fn shares_of_a_gauge_add_up_and_are_taken_back() {
    let level = Arc::new(Level::default());
    let gauge = Gauge::from_arc(Arc::clone(&level));
    let is = || *level.0.lock().unwrap();
    let (mut one, mut two) = (Share::of(&gauge), Share::of(&gauge));
    one.set(3);
    two.set(5);
    two.set(5);
    assert_eq!(is(), 8.0);
    two.set(2);
    one.set(2);
    assert_eq!(is(), 4.0);
    one.set(0);
    assert_eq!(is(), 2.0);
    one.set(4);
    assert_eq!(one.amount(), 4);
    drop(one);
    assert_eq!(is(), 2.0);
    drop(two);
    assert_eq!(is(), 0.0);
}
