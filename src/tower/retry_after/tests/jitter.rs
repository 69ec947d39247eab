use std::time::Duration;

use crate::tower::retry_after::jitter::with_jitter;

#[test]
fn no_client_is_told_less_than_the_estimate_or_the_minimum_and_none_much_more() {
    let secs = Duration::from_secs;
    for (estimate, min, least, most) in [
        (0, 1, 1, 3),
        (1, 0, 1, 3),
        (0, 0, 0, 2),
        (20, 1, 20, 25),
        (20, 30, 30, 38),
        (96, 1, 96, 120),
        (96, 600, 600, 750),
    ] {
        for random in [0.0, 0.3, 0.999] {
            let told = with_jitter(secs(estimate), secs(min), random);
            assert!((secs(least)..secs(most)).contains(&told), "{estimate} {min}: {told:?}");
        }
    }
    assert_eq!(with_jitter(Duration::MAX, secs(0), 0.9), Duration::MAX);
}
