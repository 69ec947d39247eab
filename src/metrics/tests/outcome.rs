use std::collections::BTreeSet;

use crate::error::{StoreError, StoreErrorKind};
use crate::lost_reason::LostReason;
use crate::metrics::{TurnEnd, WaitOutcome};
use crate::numbers::Epoch;
use crate::store::TurnOutcome;

#[test]
fn each_outcome_has_a_label_and_a_place_of_its_own() {
    let waits: Vec<_> = WaitOutcome::ALL.iter().map(|outcome| *outcome as usize).collect();
    assert_eq!(waits, (0..WaitOutcome::ALL.len()).collect::<Vec<_>>());
    let labels: BTreeSet<_> = WaitOutcome::ALL.iter().map(|outcome| outcome.label()).collect();
    assert_eq!(labels.len(), WaitOutcome::ALL.len());
    let turns: Vec<_> = TurnEnd::ALL.iter().map(|end| *end as usize).collect();
    assert_eq!(turns, (0..TurnEnd::ALL.len()).collect::<Vec<_>>());
    let labels: BTreeSet<_> = TurnEnd::ALL.iter().map(|end| end.label()).collect();
    assert_eq!(labels.len(), TurnEnd::ALL.len());
    #[cfg(feature = "tower")]
    {
        use crate::metrics::Rejected;
        let rejected: Vec<_> = Rejected::ALL.iter().map(|reason| *reason as usize).collect();
        assert_eq!(rejected, (0..Rejected::ALL.len()).collect::<Vec<_>>());
        let labels: BTreeSet<_> = Rejected::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), Rejected::ALL.len());
    }
    let lost: Vec<_> = LostReason::ALL.iter().map(|reason| *reason as usize).collect();
    assert_eq!(lost, (0..LostReason::ALL.len()).collect::<Vec<_>>());
}

#[test]
fn a_turn_ends_as_the_store_says() {
    use StoreErrorKind::{Disconnected, NotReady, OutOfMemory, Timeout};
    assert_eq!(TurnEnd::of(&TurnOutcome::Stale { epoch: Epoch::default() }), TurnEnd::Stale);
    assert_eq!(TurnEnd::of_error(&StoreError::elsewhere("MOVED")), TurnEnd::Moved);
    for (kind, end) in [
        (NotReady, TurnEnd::Refused),
        (OutOfMemory, TurnEnd::Refused),
        (Timeout, TurnEnd::Unanswered),
        (Disconnected, TurnEnd::Unanswered),
    ] {
        assert_eq!(TurnEnd::of_error(&StoreError::new(kind, "")), end, "{kind:?}");
    }
}
