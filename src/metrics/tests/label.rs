use std::collections::BTreeSet;

use crate::metrics::label::Values;
use crate::metrics::{MAX_SEMAPHORE_LABELS, OTHER_SEMAPHORES};

#[test]
fn names_beyond_the_bound_share_a_value_and_known_ones_keep_theirs() {
    let mut values = Values { known: BTreeSet::new() };
    let names: Vec<String> = (0..MAX_SEMAPHORE_LABELS + 2).map(|name| name.to_string()).collect();
    for round in 0..2 {
        for (index, name) in names.iter().enumerate() {
            let expected = if index < MAX_SEMAPHORE_LABELS { name } else { OTHER_SEMAPHORES };
            assert_eq!(&*values.value_for(name), expected, "round {round}");
        }
    }
    assert_eq!(values.known.len(), MAX_SEMAPHORE_LABELS);
}

#[test]
fn a_name_that_is_the_shared_value_or_empty_takes_no_room() {
    let mut values = Values { known: BTreeSet::new() };
    for shared in [OTHER_SEMAPHORES, ""] {
        assert_eq!(&*values.value_for(shared), OTHER_SEMAPHORES);
    }
    assert!(values.known.is_empty());
}
