//! Which node has which slot. Pure.

use std::collections::{HashMap, HashSet};

use crate::numbers::PlaceId;

use super::super::url::Address;
use super::slots::{SLOTS, Slot};

/// Knows the primary of each slot. A primary is a place. An address keeps its place while it has slots, or while there
/// is a connection to it. Otherwise another address may get the place, since nodes may come and go for months.
pub(super) struct SlotMap {
    /// The place of each slot. The first place stands for those of which nothing is known.
    places: Vec<PlaceId>,
    /// The addresses of the places after the first one.
    addresses: Vec<Address>,
    by_address: HashMap<Address, PlaceId>,
    /// The places to which there may be a connection.
    in_use: HashSet<PlaceId>,
}

/// Slots in a row, and the primary that has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SlotRange {
    pub(super) first: Slot,
    pub(super) last: Slot,
    pub(super) primary: Address,
}

impl SlotMap {
    /// Makes a map that knows nothing.
    pub(super) fn new() -> Self {
        Self {
            places: vec![PlaceId::FIRST; SLOTS.into()],
            addresses: Vec::new(),
            by_address: HashMap::new(),
            in_use: HashSet::new(),
        }
    }

    pub(super) fn place_of(&self, slot: Slot) -> PlaceId {
        self.places[slot.index()]
    }

    /// Returns the places that have slots. The first one is among them while slots are not known.
    pub(super) fn places(&self) -> Vec<PlaceId> {
        let mut places = self.places.clone();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// Returns the address of a place; `None` of the first one, which has none of its own.
    pub(super) fn address(&self, place: PlaceId) -> Option<&Address> {
        let index = (place.get() as usize).checked_sub(1)?;
        self.addresses.get(index)
    }

    /// Notes that a place is to be connected to. Returns its address.
    pub(super) fn enter(&mut self, place: PlaceId) -> Option<&Address> {
        self.in_use.insert(place);
        self.address(place)
    }

    /// Notes that there is no connection to a place any more.
    pub(super) fn leave(&mut self, place: PlaceId) {
        self.in_use.remove(&place);
    }

    /// Notes that a slot is at a node.
    pub(super) fn set(&mut self, slot: Slot, primary: &Address) {
        let place = self.place_at(primary, &mut None);
        self.places[slot.index()] = place;
    }

    /// Takes in what a node knows of all slots. A slot that it does not name stays where it was. Returns
    /// whether a slot has come to another place.
    pub(super) fn take_in(&mut self, ranges: &[SlotRange]) -> bool {
        let (mut changed, mut unused) = (false, None);
        for SlotRange { first, last, primary } in ranges {
            let place = self.place_at(primary, &mut unused);
            for at in self.places[first.index()..=last.index()].iter_mut() {
                changed |= *at != place;
                *at = place;
            }
        }
        changed
    }

    /// Returns whether a place has any slot.
    pub(super) fn has_slots(&self, place: PlaceId) -> bool {
        self.places.contains(&place)
    }

    /// Returns the primaries that have slots.
    pub(super) fn primaries(&self) -> Vec<Address> {
        self.places().into_iter().filter_map(|place| self.address(place).cloned()).collect()
    }

    /// Returns the place of an address. A new one gets the first place that is not used, which are looked for once.
    fn place_at(&mut self, address: &Address, unused: &mut Option<Vec<PlaceId>>) -> PlaceId {
        if let Some(place) = self.by_address.get(address) {
            return *place;
        }
        let unused = unused.get_or_insert_with(|| self.unused());
        // Its own address may have got slots again meanwhile.
        let reused = std::iter::from_fn(|| unused.pop()).find(|place| !self.has_slots(*place));
        let place = match reused {
            Some(place) => {
                let index = place.get() as usize - 1;
                let forgotten = std::mem::replace(&mut self.addresses[index], address.clone());
                self.by_address.remove(&forgotten);
                place
            }
            None => {
                self.addresses.push(address.clone());
                PlaceId::new(self.addresses.len() as u32)
            }
        };
        self.by_address.insert(address.clone(), place);
        place
    }

    /// Returns the places that have no slots and no connection, the first one last.
    fn unused(&self) -> Vec<PlaceId> {
        let mut used: HashSet<_> = self.places.iter().copied().collect();
        used.extend(&self.in_use);
        let places = (1..=self.addresses.len()).rev().map(|number| PlaceId::new(number as u32));
        places.filter(|place| !used.contains(place)).collect()
    }
}
