use std::collections::BTreeSet;

use crate::metrics::label::Values;
use crate::metrics::{LABEL_VALUES, OTHER};

#[test]
fn names_beyond_the_bound_share_a_value_and_known_ones_keep_theirs() {
    let mut values = Values { known: BTreeSet::new() };
    let names: Vec<String> = (0..LABEL_VALUES + 2).map(|name| name.to_string()).collect();
    for round in 0..2 {
        for (index, name) in names.iter().enumerate() {
            let expected = if index < LABEL_VALUES { name } else { OTHER };
            assert_eq!(&*values.value_for(name), expected, "round {round}");
        }
    }
    assert_eq!(values.known.len(), LABEL_VALUES);
}
