use test_support::ledger::{Ledger, Reporter, monotonic_nanos};
use test_support::overlap::{Hold, Overlap, largest_overlap};

fn hold(holder: &str, units: u32, from_ns: u64, until_ns: u64) -> Hold {
    Hold { process: 1, holder: holder.to_owned(), units, from_ns, until_ns }
}

#[test]
fn the_sweep_finds_the_largest_sum_and_who_made_it() {
    let holds = [
        hold("a", 1, 0, 40),
        hold("b", 2, 10, 20),
        hold("c", 3, 15, 30),
        hold("d", 4, 50, u64::MAX),
    ];
    let overlap = largest_overlap(&holds, 0..u64::MAX);
    assert_eq!((overlap.units, overlap.at_ns), (6, 15));
    assert_eq!(overlap.holds, holds[..3]);
    let text = overlap.to_string();
    assert!(text.contains("6 units at once"), "{text}");
    assert!(text.contains("3 units, c of process 1"), "{text}");
}

#[test]
fn the_sweep_keeps_to_its_window() {
    let holds = [hold("a", 1, 0, 20), hold("b", 1, 10, 40), hold("c", 1, 30, 50)];
    assert_eq!(largest_overlap(&holds, 0..u64::MAX).units, 2);
    assert_eq!(largest_overlap(&holds, 20..30).units, 1);
    assert_eq!(largest_overlap(&holds, 20..31).units, 2);
    assert_eq!(largest_overlap(&holds, 50..60), Overlap::default());
}

#[test]
fn a_handover_is_no_overlap_and_an_empty_hold_is_none() {
    let holds = [hold("a", 1, 0, 10), hold("b", 1, 10, 20), hold("c", 9, 15, 12)];
    assert_eq!(largest_overlap(&holds, 0..u64::MAX).units, 1);
    assert_eq!(largest_overlap(&[], 0..u64::MAX), Overlap::default());
}

#[test]
fn collects_in_order_from_many_threads() {
    let ledger = Ledger::start();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let reporter = Reporter::connect(&ledger.address());
            scope.spawn(move || {
                for _ in 0..500 {
                    reporter.enter(thread, 1);
                    reporter.leave(thread);
                }
            });
        }
    });
    let holds = ledger.holds();
    assert_eq!(holds.len(), 2000);
    assert!(holds.iter().all(|hold| hold.from_ns <= hold.until_ns && hold.until_ns < u64::MAX));
    ledger.assert_never_over(4);
    assert_eq!(ledger.timeline().lines().count(), 2000);
}

#[test]
fn a_leave_can_be_told_later_than_it_was() {
    let ledger = Ledger::start();
    let reporter = Reporter::connect(&ledger.address());
    reporter.enter("frozen", 2);
    let deadline = monotonic_nanos();
    reporter.enter("next", 2);
    assert_eq!(ledger.overlap().units, 4);
    reporter.leave_at("frozen", deadline);
    assert_eq!(ledger.overlap().units, 2);
    assert_eq!(ledger.overlap_within(0..deadline).units, 2);
}

#[test]
#[should_panic(expected = "the limit is 1, but 2 units at once")]
fn an_overlap_is_told() {
    let ledger = Ledger::start();
    let reporter = Reporter::connect(&ledger.address());
    reporter.enter("a", 1);
    reporter.enter("b", 1);
    ledger.assert_never_over(1);
}

#[test]
#[should_panic(expected = "entered twice")]
fn reports_that_prove_nothing_are_refused() {
    let ledger = Ledger::start();
    let reporter = Reporter::connect(&ledger.address());
    reporter.enter("a", 1);
    reporter.enter("a", 1);
    ledger.holds();
}
