//! The lazy-deletion heap of instants at which permits need a look.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::driver::state::Deadlines;

#[tokio::test(start_paused = true)]
async fn what_has_moved_is_told_once_at_its_new_instant_and_leaves_nothing_behind() {
    let start = Instant::now();
    let at = |secs| start + Duration::from_secs(secs);
    let mut deadlines = Deadlines::default();
    let mut instants = HashMap::new();
    for round in 0..100 {
        for counter in 0..10 {
            let next = at(round * 10 + counter);
            instants.insert(counter, next);
            deadlines.put(next, counter);
        }
        deadlines.forget(instants.len(), |counter| instants.get(&counter).copied());
        assert!(deadlines.len() < 100, "{} are remembered", deadlines.len());
    }
    instants.remove(&0);
    let mut told = Vec::new();
    while let Some(first) = deadlines.first(|counter| instants.get(&counter).copied()) {
        told.push(first);
        deadlines.pop();
    }
    let expected: Vec<_> = (1..10).map(|counter| (at(990 + counter), counter)).collect();
    assert_eq!(told, expected);
}
