use std::time::Duration;

use crate::tower::retry_after::ended_holds::EndedHolds;
use crate::tower::retry_after::estimate::{Occupancy, PresentHold, estimate};

fn holders(ages: &[f64]) -> Vec<PresentHold> {
    ages.iter().map(|&age| PresentHold { age, units: 1.0 }).collect()
}

fn ended(lengths: &[f64]) -> EndedHolds {
    let mut all = EndedHolds::default();
    lengths.iter().for_each(|length| all.record(*length));
    all
}

const fn occupancy(in_use: u64, limit: u32) -> Occupancy {
    Occupancy { in_use: Some(in_use), limit }
}

/// Asserts the estimate in seconds, for the lengths of ended holds and the ages of present ones.
#[track_caller]
fn assert_waits(
    expected: f64,
    lengths: &[f64],
    ages: &[f64],
    occupancy: Occupancy,
    ahead: u64,
    units: u32,
) {
    let found = estimate(&ended(lengths), &holders(ages), occupancy, ahead, units).as_secs_f64();
    assert!((found - expected).abs() < 1e-3, "{found} s, not {expected} s");
}

#[test]
fn before_any_hold_has_ended_present_ones_last_as_long_again_as_they_have() {
    assert_waits(0.0, &[], &[], occupancy(4, 4), 0, 1);
    assert_waits(0.0, &[], &[0.0; 4], occupancy(4, 4), 0, 1);
    assert_waits(20.0, &[], &[20.0; 4], occupancy(4, 4), 0, 1);
    assert_waits(50.0, &[], &[50.0], occupancy(1, 1), 0, 1);
    // A hold that has just begun is no sign that holds end soon.
    assert_waits(19.0, &[], &[20.0, 20.0, 20.0, 1.0], occupancy(4, 4), 0, 1);
    // A hold that hangs is no sign that others do not end.
    assert_waits(5.0, &[], &[3000.0, 5.0, 6.0, 7.0], occupancy(4, 4), 0, 1);
}

#[test]
fn holds_that_began_together_end_together_and_others_one_by_one() {
    let began_one_by_one = [0.0, 15.0, 30.0, 45.0];
    assert_waits(40.0, &[60.0], &[20.0; 4], occupancy(4, 4), 0, 1);
    assert_waits(40.0, &[60.0], &[20.0; 4], occupancy(4, 4), 3, 1);
    assert_waits(15.0, &[60.0], &began_one_by_one, occupancy(4, 4), 0, 1);
    assert_waits(45.0, &[60.0], &began_one_by_one, occupancy(4, 4), 2, 1);
    assert_waits(45.0, &[60.0], &began_one_by_one, occupancy(4, 4), 0, 3);
    // The next round of holds.
    assert_waits(25.0, &[20.0], &[15.0; 4], occupancy(4, 4), 4, 1);
    assert_waits(65.0, &[20.0], &[15.0; 4], occupancy(4, 4), 15, 1);
}

#[test]
fn quick_responses_say_nothing_of_streams_that_have_outlived_them() {
    let mut lengths = vec![0.01; 1000];
    assert_waits(30.0, &lengths, &[30.0; 4], occupancy(4, 4), 0, 1);
    lengths.insert(500, 60.0);
    assert_waits(30.0, &lengths, &[30.0; 4], occupancy(4, 4), 0, 1);
    // But holds that have just begun are most likely quick.
    assert_waits(0.01, &lengths, &[30.0, 30.0, 30.0, 0.0], occupancy(4, 4), 0, 1);
    // The age of holds elsewhere is not known: most of the time is held by the long ones.
    let found = estimate(&ended(&lengths), &[], occupancy(4, 4), 0, 1).as_secs_f64();
    assert!((12.0..15.0).contains(&found), "{found}");
}

#[test]
fn no_estimate_is_shorter_for_a_place_further_back_or_for_more_units() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut seconds = || 10_f64.powf(4.0 * random.f64() - 1.0);
    for n in 0..200_u32 {
        let (ages, lengths) = (1 + n % 8, n % 21);
        let holders = holders(&(0..ages).map(|_| seconds()).collect::<Vec<_>>());
        let lengths = ended(&(0..lengths).map(|_| seconds()).collect::<Vec<_>>());
        let wait =
            |ahead, units| estimate(&lengths, &holders, occupancy(ages.into(), ages), ahead, units);
        for ahead in 0..24 {
            for units in 1..=ages {
                let told = wait(ahead, units);
                assert!(told <= wait(ahead + 1, units), "{ahead} ahead, {units}: {holders:?}");
                assert!(units == ages || told <= wait(ahead, units + 1), "{ahead}, {units}");
            }
        }
    }
    // The units of the quick holds are free again sooner than those of the one that hangs.
    assert_waits(11.0, &[], &[3000.0, 5.0, 6.0, 7.0], occupancy(4, 4), 3, 1);
    assert_waits(11.0, &[], &[3000.0, 5.0, 6.0, 7.0], occupancy(4, 4), 4, 1);
    // A request for all units needs those of the one that hangs as well.
    assert_waits(96.0, &[], &[3000.0, 5.0, 6.0, 7.0], occupancy(4, 4), 0, 4);
}

#[test]
fn a_hold_that_hangs_does_not_hide_that_others_end() {
    let lengths = [&[10.0; 100][..], &[3600.0]].concat();
    assert_waits(2.0, &lengths, &[7200.0, 2.0, 4.0, 8.0], occupancy(4, 4), 0, 1);
    // Sixty WebSockets and forty requests a second.
    let ages = [[3600.0; 60].as_slice(), &[0.05; 40]].concat();
    assert_waits(0.05, &[0.1; 100], &ages, occupancy(100, 100), 0, 1);
}

/// If the end of a hold does not depend on its age, one of n holds ends in an nth of the mean.
#[test]
fn of_many_that_may_end_at_any_time_one_ends_soon() {
    let quantile = |n: u32| -30.0 * (1.0 - (f64::from(n) + 0.5) / 1000.0).ln();
    let lengths: Vec<_> = (0..1000).map(quantile).collect();
    let ages: Vec<_> = lengths.iter().step_by(16).copied().collect();
    let n = ages.len() as u64;
    let found = estimate(&ended(&lengths), &holders(&ages), occupancy(n, n as u32), 0, 1);
    assert!((0.1..3.0).contains(&found.as_secs_f64()), "{found:?}, not about 0.5 s");
}

#[test]
fn holds_elsewhere_are_like_those_here_or_end_evenly() {
    assert_waits(15.0, &[60.0], &[], occupancy(4, 4), 0, 1);
    assert_waits(3.0, &[2.0], &[], occupancy(4, 4), 5, 1);
    assert_waits(20.0, &[60.0], &[10.0, 40.0], occupancy(8, 8), 0, 1);
    assert_waits(50.0, &[60.0], &[10.0, 40.0], occupancy(8, 8), 4, 1);
    // If it is not known how full the semaphore is, it counts as full.
    assert_waits(10.0, &[60.0], &[], Occupancy { in_use: None, limit: 6 }, 0, 1);
}

#[test]
fn the_limit_determines_how_many_units_must_become_free() {
    let ages = [1.0, 3.0, 5.0, 7.0];
    // The limit was lowered: the surplus ends first.
    assert_waits(5.0, &[8.0], &ages, occupancy(4, 2), 0, 1);
    // A request for the whole limit waits until nothing is in use; one for less finds room.
    assert_waits(7.0, &[8.0], &[1.0, 3.0], occupancy(2, 8), 0, 8);
    assert_waits(0.0, &[8.0], &[1.0, 3.0], occupancy(2, 8), 0, 1);
    // Paused.
    assert_waits(96.0, &[1.0], &[], occupancy(0, 0), 0, 1);
}

#[test]
fn a_heavy_holder_frees_all_its_units_at_once() {
    let holders = [PresentHold { age: 5.0, units: 3.0 }, PresentHold { age: 8.0, units: 1.0 }];
    let wait = |units| estimate(&ended(&[10.0]), &holders, occupancy(4, 4), 0, units).as_secs();
    assert_eq!([1, 2, 3, 4].map(wait), [2, 5, 5, 5]);
}

#[test]
fn holds_of_long_ago_count_less() {
    let mut lengths = ended(&[60.0; 100]);
    lengths.decay(1200.0);
    (0..10).for_each(|_| lengths.record(10.0));
    let wait = estimate(&lengths, &holders(&[5.0; 4]), occupancy(4, 4), 0, 1);
    assert_eq!(wait.as_secs(), 5);
}

#[test]
fn no_hold_is_too_long_or_too_short_for_it() {
    let longest = Duration::MAX.as_secs_f64();
    assert_waits(96.0, &[longest; 10], &[longest], occupancy(1, 1), u64::MAX, u32::MAX);
    assert_waits(0.0, &[0.0], &[0.0], occupancy(1, 1), 0, 1);
    let mut faded = ended(&[1.0]);
    faded.decay(longest);
    assert_eq!(estimate(&faded, &holders(&[3.0]), occupancy(1, 1), 0, 1).as_secs(), 3);
}
