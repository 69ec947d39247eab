//! The outcomes and reasons that the documentation lists are those that the code can count.

use std::collections::BTreeSet;

use crate::lost_reason::LostReason;
use crate::metrics::outcome::{TurnEnd, WaitOutcome};
use crate::metrics::semaphore::label_of;

const NAMES: &str = include_str!("../names.rs");

/// The words in backticks of the first column of the tables in the documentation of `item`.
fn documented(source: &str, item: &str) -> BTreeSet<String> {
    let (before, _) = source.split_once(item).unwrap();
    let lines = before.lines().rev().map(str::trim).skip_while(|line| line.is_empty());
    let docs = lines.take_while(|line| line.starts_with("///") || line.starts_with("#["));
    let rows = docs.filter_map(|line| line.strip_prefix("/// | `"));
    let first = rows.map(|row| row.split(" |").next().unwrap());
    let words = first.flat_map(|cell| cell.split('`').map(|word| word.trim_matches([',', ' '])));
    let words = words.filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

fn counted<'a>(labels: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    labels.into_iter().map(str::to_owned).collect()
}

#[test]
fn the_outcomes_of_waits_and_turns_and_the_reasons_of_losses_are_those_in_the_documentation() {
    let waits = WaitOutcome::ALL.map(WaitOutcome::label);
    assert_eq!(documented(NAMES, "pub const WAIT_SECONDS:"), counted(waits));
    let turns = TurnEnd::ALL.map(TurnEnd::label);
    assert_eq!(documented(NAMES, "pub const TURNS_TOTAL:"), counted(turns));
    assert_eq!(documented(NAMES, "pub const LOST_TOTAL:"), counted(LostReason::ALL.map(label_of)));
}

#[cfg(feature = "tower")]
#[test]
fn the_outcomes_and_reasons_of_requests_are_those_in_the_documentation() {
    use crate::metrics::outcome::{Rejected, RequestOutcome};

    let outcomes =
        RequestOutcome::UNREJECTED.into_iter().chain([RequestOutcome::Rejected(Rejected::Full)]);
    let outcomes = outcomes.map(RequestOutcome::label);
    assert_eq!(documented(NAMES, "pub const REQUESTS_TOTAL:"), counted(outcomes));
    let mut reasons = documented(include_str!("../../tower/rejection.rs"), "pub fn label(&self)");
    assert!(reasons.remove("lost"), "who has lost its permit was let through");
    assert_eq!(reasons, counted(Rejected::ALL.map(Rejected::label)));
}
