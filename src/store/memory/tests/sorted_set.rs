use proptest::prelude::*;

use crate::id::{ClientId, DEFAULT_LEASE, PermitId};
use crate::store::memory::sorted_set::SortedSet;

fn id() -> impl Strategy<Value = PermitId> {
    let counter = prop_oneof![0u64..300, any::<u64>()];
    (0u64..3, counter).prop_map(|(bits, counter)| {
        PermitId::new(ClientId::from_bits(bits), counter, 1, DEFAULT_LEASE)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ids_stand_in_the_order_of_scores_and_then_of_texts(
        members in prop::collection::vec((id(), 0u64..4), 0..40),
    ) {
        let mut set = SortedSet::default();
        let mut expected = Vec::new();
        for (id, score) in members {
            expected.retain(|&(_, _, known)| known != id);
            expected.push((score, id.to_string(), id));
            set.insert(id, score);
        }
        expected.sort();
        let expected: Vec<_> = expected.into_iter().map(|(score, _, id)| (score, id)).collect();
        prop_assert_eq!(set.iter().collect::<Vec<_>>(), expected.clone());
        for (rank, (_, id)) in expected.iter().enumerate() {
            prop_assert_eq!(set.rank(id), rank as u64);
        }
        for (_, id) in &expected {
            prop_assert!(set.remove(id) && !set.remove(id));
        }
        prop_assert!(set.is_empty() && set.first().is_none());
    }
}
