//! The lists in `tests/README.md`: which tests prove which behaviour.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const INVARIANTS: u32 = 7;
const BEHAVIOURS: u32 = 89;

/// "Behaviour 5", "Invariant 1".
type Claim = (&'static str, u32);

/// The tests that the map lists, by the heading they stand under.
fn map() -> BTreeMap<Claim, BTreeSet<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/README.md");
    let mut map = BTreeMap::<Claim, BTreeSet<String>>::new();
    let mut claim = None;
    for line in fs::read_to_string(path).unwrap().lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            let [heading] = claims(heading)[..] else { panic!("not one claim: {heading}") };
            assert!(map.insert(heading, BTreeSet::new()).is_none(), "twice: {line}");
            claim = Some(heading);
        } else if line.starts_with('#') {
            claim = None;
        } else if let Some((claim, item)) = claim.zip(line.strip_prefix("- ")) {
            let test = item.strip_prefix('`').and_then(|item| item.strip_suffix('`'));
            let test = test.unwrap_or_else(|| panic!("not the name of a test: {line}"));
            assert!(map.entry(claim).or_default().insert(test.to_owned()), "twice: {line}");
        }
    }
    map
}

/// What `text` claims: "Behaviours 21, 23, invariant 2" is three.
fn claims(text: &str) -> Vec<Claim> {
    let text = text.to_lowercase();
    let mut kind = None;
    let mut claims = Vec::new();
    for word in text.split(|c: char| !c.is_alphanumeric()) {
        match word {
            "behaviour" | "behaviours" => kind = Some("Behaviour"),
            "invariant" | "invariants" => kind = Some("Invariant"),
            "" => {}
            word => match (kind, word.parse()) {
                (Some(kind), Ok(number)) => claims.push((kind, number)),
                _ => kind = None,
            },
        }
    }
    claims
}

/// All tests of the project by name, with what the comments above them claim.
fn tests() -> BTreeMap<String, Vec<Claim>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = BTreeMap::<String, Vec<Claim>>::new();
    for folder in ["src", "tests"] {
        each_source(&root.join(folder), &mut |text| {
            let (mut above, mut is_test) = (Vec::new(), false);
            for line in text.lines().map(str::trim) {
                if let Some(comment) = line.strip_prefix("// ") {
                    above.extend(claims(comment));
                } else if line.starts_with("#[") {
                    is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                } else {
                    let claims = std::mem::take(&mut above);
                    if let Some(name) = name_of_function(line)
                        && std::mem::take(&mut is_test)
                    {
                        tests.entry(name.to_owned()).or_default().extend(claims);
                    }
                }
            }
        });
    }
    tests
}

fn name_of_function(line: &str) -> Option<&str> {
    let line = line.strip_prefix("async ").unwrap_or(line);
    line.strip_prefix("fn ")?.split('(').next()
}

fn each_source(folder: &Path, read: &mut impl FnMut(&str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_source(&path, read);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            read(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_test_named_in_the_map_exists() {
    let (map, tests) = (map(), tests());
    let named: BTreeSet<_> = map.values().flatten().collect();
    assert!(named.len() > 350, "only {} tests are named", named.len());
    let missing: Vec<_> = named.iter().filter(|&&test| !tests.contains_key(test)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}

#[test]
fn every_behaviour_and_invariant_has_a_test() {
    let map = map();
    let expected = (1..=INVARIANTS).map(|number| ("Invariant", number));
    let expected = expected.chain((1..=BEHAVIOURS).map(|number| ("Behaviour", number)));
    for claim in expected {
        assert!(map.get(&claim).is_some_and(|tests| !tests.is_empty()), "{claim:?} has none");
    }
    assert_eq!(map.len() as u32, INVARIANTS + BEHAVIOURS, "a claim that nobody knows");
}

#[test]
fn what_a_test_says_it_proves_is_where_the_map_lists_it() {
    let map = map();
    let mut unlisted = Vec::new();
    for (test, claims) in tests() {
        for claim in claims {
            if map.get(&claim).is_none_or(|listed| !listed.contains(&test)) {
                unlisted.push(format!("{} {}: {test}", claim.0, claim.1));
            }
        }
    }
    assert!(unlisted.is_empty(), "not in the map: {unlisted:#?}");
}
