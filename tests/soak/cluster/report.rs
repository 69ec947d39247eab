//! What is printed at the end.

use std::time::Duration;

use super::faults::Record;
use super::lost_permits::Sum;
use crate::excess::Excess;
use crate::scene::Scene;
use crate::verdict::{report_faults, report_holds};

pub fn report(scene: &Scene, record: &Record, took: Duration) {
    report_faults(scene, took);
    report_times(record);
    println!("\nwhat replicas that lagged did not know when they took over:");
    for (how, lost) in &record.lost {
        report_lost(how, lost);
    }
    if record.lost_in_all().grants == 0 {
        println!("  no acknowledged grant was lost: this run shows nothing of it");
    }
    println!("\nover the limit where acknowledged writes may have been lost:");
    let excess = scene.witness.state().excess.clone();
    if excess.is_empty() {
        println!("  never");
    }
    for (kind, excess) in excess {
        report_excess(kind, &excess);
    }
    report_holds(scene);
}

fn report_times(record: &Record) {
    println!("\nwhat each took the cluster itself, median and longest:");
    for (kind, times) in record.times.iter().filter(|(_, times)| !times.is_empty()) {
        let mut times = times.clone();
        times.sort_unstable();
        let [median, longest] = [times[(times.len() - 1) / 2], times[times.len() - 1]];
        println!("  {kind:<40}{:>8.3} s{:>8.3} s", median.as_secs_f64(), longest.as_secs_f64());
    }
    let by_operator = record.promoted_by_operator;
    println!("  {by_operator} replicas that nobody elected were promoted by the operator");
}

fn report_lost(how: &str, lost: &Sum) {
    println!("  {how}, {} times:", lost.failovers);
    println!("    {} grants, of which {} were held:", lost.grants, lost.grants_held);
    println!("      {} put back, {} of them shown by `inspect`", lost.put_back, lost.inspected);
    println!("      {} told missing, {} given back before", lost.told_missing, lost.given_back);
    println!("      {} of killed processes, closed clients, or whose leases ended", lost.ended);
    println!(
        "    {} renewals, of which {} of permits that were held",
        lost.renewals, lost.renewals_held
    );
    println!("    at most {} units that were held of one name", lost.most_units);
    println!("    none of {} replicated grants that were held", lost.replicated_held);
}

fn report_excess(kind: &str, excess: &Excess) {
    println!(
        "  {kind:<40}{} times, by {} units at most, for {:.3} s at most, {:.3} s in all; \
         {} permits were missing, {} tokens fell",
        excess.times,
        excess.most_units,
        excess.longest as f64 / 1e9,
        excess.total as f64 / 1e9,
        excess.missing_permits,
        excess.fallen_tokens,
    );
}
