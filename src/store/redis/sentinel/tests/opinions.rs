//! When the sentinels deny that the primary is where it was.

use std::time::Duration;

use crate::store::redis::sentinel::answer::Known;
use crate::store::redis::sentinel::opinions::Opinions;
use crate::store::redis::sentinel::refusal::Refusal;
use crate::store::redis::url::Address;

/// What a sentinel says: the port of the primary and the epoch, or nothing.
type Word = Option<(u16, u64)>;

/// Takes in what sentinels say, each by its number.
fn heard(words: &[(u16, Word)]) -> Opinions {
    let mut opinions = Opinions::default();
    for (sentinel, word) in words {
        let known = |(port, epoch)| Known { address: Address::new("p", port), epoch };
        let latest = word.map(known).ok_or(Refusal::Silent(Duration::ZERO));
        opinions.take_in(Address::new("s", *sentinel), latest);
    }
    opinions
}

// Behaviour 72
#[test]
fn a_lower_epoch_counts_where_most_sentinels_were_set_up_anew_and_none_names_the_primary() {
    // The primary is at port 1 in epoch 5. There are three sentinels.
    let (here, new) = (Some((1, 5)), Some((2, 0)));
    for (what, words, denied) in [
        ("nobody speaks", vec![], false),
        ("all agree", vec![(1, here), (2, here), (3, here)], false),
        ("one knows a failover", vec![(1, here), (2, here), (3, Some((2, 6)))], true),
        ("it is the same server", vec![(1, Some((1, 6)))], false),
        ("one was cut off", vec![(1, here), (2, Some((2, 4)))], false),
        ("one was cut off and is alone", vec![(1, Some((2, 4)))], false),
        ("most were cut off", vec![(1, None), (2, Some((2, 4))), (3, Some((2, 4)))], false),
        ("one was set up anew", vec![(1, here), (1, new), (2, here), (3, here)], false),
        ("the only one that answers, too", vec![(1, here), (1, new), (2, None)], false),
        ("two, and the third one has not", vec![(1, here), (1, new), (2, new), (3, here)], false),
        ("two, and the third one is away", vec![(1, here), (1, new), (2, new), (3, None)], true),
        ("all", vec![(1, here), (2, here), (3, here), (1, new), (2, new), (3, new)], true),
        (
            "two were cut off, and the leader dies",
            vec![(1, here), (1, None), (2, new), (3, new)],
            false,
        ),
        ("it was away in between", vec![(1, here), (1, None), (1, new), (2, new)], true),
        ("its epoch has come back", vec![(1, here), (1, new), (1, Some((2, 5))), (2, new)], false),
    ] {
        let primary = Known { address: Address::new("p", 1), epoch: 5 };
        assert_eq!(heard(&words).deny(&primary, 3), denied, "{what}");
    }
    let primary = Known { address: Address::new("p", 1), epoch: 5 };
    assert!(heard(&[(1, here), (1, new)]).deny(&primary, 1), "the only sentinel there is");
    assert!(!heard(&[(1, here), (1, new), (2, new)]).deny(&primary, 4), "half of all");
}

// Behaviour 73
#[test]
fn the_last_word_of_each_sentinel_counts() {
    let opinions = heard(&[(1, None), (2, Some((7, 1))), (1, Some((8, 2))), (2, None), (3, None)]);
    let ports: Vec<_> = opinions.known().map(|known| known.address.port()).collect();
    assert_eq!(ports, [8]);
    let mut silent: Vec<_> = opinions.refusals().iter().map(|(at, _)| at.port()).collect();
    silent.sort_unstable();
    assert_eq!(silent, [2, 3]);
}

// Behaviour 72
#[test]
fn a_promoted_replica_is_followed_and_has_to_be_named_by_a_sentinel() {
    let here = Some((1, 5));
    let [old, new] =
        [(1, 5), (2, 6)].map(|(port, epoch)| Known { address: Address::new("p", port), epoch });
    let mut opinions = heard(&[(1, here), (2, here)]);
    assert!(opinions.confirm(&old) && opinions.confirm(&new), "no replica was promoted");
    opinions.note_promoted(new.clone());
    assert!(opinions.deny(&old, 2));
    assert!(!opinions.deny(&new, 2), "the sentinels do not know it yet");
    assert!(opinions.confirm(&old));
    assert!(!opinions.confirm(&new));
    assert_eq!(opinions.known().max_by_key(|known| known.epoch), Some(&new));
    let latest = Known { epoch: 7, ..new.clone() };
    opinions.take_in(Address::new("s", 2), Ok(latest));
    assert!(opinions.confirm(&new));
    let another = Known { address: Address::new("p", 3), epoch: 8 };
    opinions.take_in(Address::new("s", 1), Ok(another));
    assert!(opinions.deny(&new, 2), "another failover has chosen another replica");
    let again = Opinions::with_promoted(Some(new.clone()));
    assert!(again.known().eq([&new]) && again.answers().next().is_none());
}
