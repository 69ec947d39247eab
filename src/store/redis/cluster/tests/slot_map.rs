//! The map: what a node told of all slots, and what redirections told of one.

use std::collections::HashSet;

use super::super::slot_map::{SlotMap, SlotRange};
use super::super::slots::Slot;
use crate::numbers::PlaceId;
use crate::store::redis::url::Address;

fn node(port: u16) -> Address {
    Address::new("host", port)
}

fn range(first: u16, last: u16, port: u16) -> SlotRange {
    SlotRange {
        first: Slot::new(first).unwrap(),
        last: Slot::new(last).unwrap(),
        primary: node(port),
    }
}

/// The ports of the nodes that have slots; 0 stands for a slot of which nothing is known.
fn ports<const N: usize>(map: &SlotMap, slots: [u16; N]) -> [u16; N] {
    let place = |slot| map.place_of(Slot::new(slot).unwrap());
    slots.map(|slot| map.address(place(slot)).map_or(0, Address::port))
}

#[test]
fn a_map_knows_nothing_until_a_node_has_told() {
    let mut map = SlotMap::new();
    assert_eq!(ports(&map, [0, 16_383]), [0, 0]);
    assert_eq!(map.place_of(Slot::new(5).unwrap()), PlaceId::FIRST);
    assert!(map.take_in(&[range(0, 99, 1), range(100, 16_383, 2)]));
    assert_eq!(ports(&map, [0, 99, 100, 16_383]), [1, 1, 2, 2]);
    assert!(!map.take_in(&[range(0, 99, 1), range(100, 16_383, 2)]), "nothing has moved");
    assert!(map.take_in(&[range(100, 16_383, 3)]));
    assert_eq!(ports(&map, [0, 99, 100, 16_383]), [1, 1, 3, 3], "what is not told stays");
}

#[test]
fn a_redirection_moves_one_slot() {
    let mut map = SlotMap::new();
    map.take_in(&[range(0, 16_383, 1)]);
    map.set(Slot::new(7).unwrap(), &node(2));
    assert_eq!(ports(&map, [6, 7, 8]), [1, 2, 1]);
}

#[test]
fn an_address_keeps_its_place_and_no_other_address_gets_it() {
    let mut map = SlotMap::new();
    map.take_in(&[range(0, 9, 1), range(10, 16_383, 2)]);
    let before = map.place_of(Slot::new(0).unwrap());
    map.take_in(&[range(0, 9, 3)]);
    assert_ne!(map.place_of(Slot::new(0).unwrap()), before);
    map.take_in(&[range(0, 9, 1)]);
    assert_eq!(map.place_of(Slot::new(0).unwrap()), before);
    assert_eq!(map.address(before), Some(&node(1)));
    assert_eq!(map.address(PlaceId::FIRST), None);
}

#[test]
fn the_primaries_are_those_that_have_slots() {
    let mut map = SlotMap::new();
    map.take_in(&[range(0, 9, 1), range(10, 19, 2), range(20, 16_383, 3)]);
    map.take_in(&[range(10, 19, 3)]);
    assert_eq!(map.primaries(), [node(1), node(3)]);
}

// Behaviour 81
#[test]
fn a_map_of_nodes_that_come_and_go_keeps_the_places_of_those_in_use_alone() {
    let mut map = SlotMap::new();
    map.take_in(&[range(0, 99, 1), range(100, 16_383, 2)]);
    let [first, second] = [0, 100].map(|slot| map.place_of(Slot::new(slot).unwrap()));
    assert_eq!(map.enter(first), Some(&node(1)));
    let mut places = HashSet::new();
    for port in 3..2_000 {
        map.take_in(&[range(0, 99, port)]);
        let place = map.place_of(Slot::new(0).unwrap());
        assert_eq!(map.address(place), Some(&node(port)));
        assert!(![first, second].contains(&place), "it is in use");
        places.insert(place);
    }
    assert!(places.len() <= 2, "{places:?}");
    assert_eq!(map.address(first), Some(&node(1)), "there is a connection to it");
    assert_eq!(map.address(second), Some(&node(2)), "it has slots");

    // Once the connection is closed, another node may have the place, and the first one gets another.
    map.leave(first);
    map.take_in(&[range(50, 99, 2_000)]);
    assert_eq!(ports(&map, [0, 50, 100]), [1_999, 2_000, 2]);
    assert_eq!(map.place_of(Slot::new(50).unwrap()), first);
    map.take_in(&[range(50, 60, 1)]);
    assert_eq!(ports(&map, [50, 61]), [1, 2_000]);
}

// Behaviour 81
#[test]
fn a_node_that_gets_slots_again_keeps_its_place_from_the_new_nodes_of_the_same_answer() {
    let mut map = SlotMap::new();
    map.take_in(&[range(0, 9, 1), range(10, 19, 2), range(20, 16_383, 3)]);
    map.take_in(&[range(0, 19, 3)]); // the nodes 1 and 2 have no slots now
    map.take_in(&[range(0, 0, 4), range(1, 1, 2), range(2, 2, 5)]);
    assert_eq!(ports(&map, [0, 1, 2, 3]), [4, 2, 5, 3]);
}
