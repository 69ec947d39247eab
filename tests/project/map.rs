//! The map of behaviours to tests in `tests/README.md` names only tests that exist.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::fs;
use std::path::Path;

#[test]
fn every_test_named_in_the_map_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = fs::read_to_string(root.join("tests/README.md")).unwrap();
    let named: Vec<(&str, &str)> =
        map.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")).collect();
    assert!(named.len() > 150, "only {} tests are named", named.len());
    for (file, test) in named {
        let folder = if file.starts_with("src/") { "" } else { "tests/" };
        let path = root.join(format!("{folder}{file}.rs"));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(&format!("fn {test}(")), "{file} has no test {test}");
    }
}

#[test]
fn every_behaviour_and_invariant_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = fs::read_to_string(root.join("tests/README.md")).unwrap();
    let (invariants, behaviours) = map.split_once("## Behaviours").unwrap();
    let has = |text: &str, number: u32| {
        let row = text.lines().find(|line| line.starts_with(&format!("| {number}. ")));
        row.is_some_and(|row| row.contains("::"))
    };
    assert!((1..=7).all(|number| has(invariants, number)));
    assert!((1..=70).all(|number| has(behaviours, number)));
}
