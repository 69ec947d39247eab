//! Tests of a state without a store.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::harness::LEASE;
use crate::driver::state::SemaphoreState;
use crate::id::{ClientId, PermitId};
use crate::options::Options;
use crate::store::WhenFull;

const CALL_TIMEOUT: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn acquires_that_come_and_go_during_an_outage_leave_no_list_behind() {
    let client = ClientId::from_bits(1);
    let mut state = SemaphoreState::new("outage".into(), client);
    let options = Arc::new(Options::with_lease(LEASE));
    for counter in 1..=10_000 {
        let id = PermitId::new(client, counter, 1, LEASE);
        state.enter(id, WhenFull::Wait, Arc::clone(&options));
        state.cancel(counter, Instant::now());
    }
    assert!(!state.has_waiters() && state.removals() == 0);
    let remembered = state.remembered_newcomers();
    assert!(remembered < 100, "{remembered} are remembered");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(state.next_turn(Instant::now(), CALL_TIMEOUT, None).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_over_wants_no_look_where_there_is_nothing_to_say() {
    let mut state = SemaphoreState::new("paused".into(), ClientId::from_bits(1));
    state.pause(Instant::now());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(state.next_turn(Instant::now(), CALL_TIMEOUT, None).is_none());
    assert_eq!(state.next_look(true), None);
}
