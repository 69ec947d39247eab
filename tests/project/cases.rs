//! The tables in `tests/README.md`: which test keeps which promise of `zsem`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Returns the tests in the rows below a heading.
fn tests_below(page: &str, heading: &str) -> Vec<String> {
    let (_, rest) = page.split_once(&format!("\n## {heading}\n")).expect(heading);
    let section = rest.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ") && line.ends_with("` |"));
    let tests = rows.map(|row| row.trim_end_matches("` |").rsplit('`').next().unwrap().to_owned());
    tests.collect()
}

#[test]
fn every_case_of_the_command_and_every_status_has_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let page = fs::read_to_string(root.join("README.md")).unwrap();
    let mut present = BTreeSet::new();
    for entry in fs::read_dir(root.join("cli")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            if line.starts_with("#[tokio::test") || line == "#[test]" {
                let name = lines.peek().and_then(|line| line.split("fn ").nth(1)).unwrap();
                present.insert(name.split('(').next().unwrap().to_owned());
            }
        }
    }
    let mut cases = tests_below(&page, "The cases of `zsem run`");
    let others = tests_below(&page, "The cases of the other commands of `zsem`");
    let statuses = tests_below(&page, "The exit statuses");
    assert!(cases.len() >= 30 && statuses.len() >= 12, "{} {}", cases.len(), statuses.len());
    assert!(others.len() >= 11, "{}", others.len());
    cases.extend(others);
    let distinct: BTreeSet<_> = cases.iter().collect();
    assert_eq!(distinct.len(), cases.len(), "a test stands there twice");
    let missing: Vec<_> =
        cases.iter().chain(&statuses).filter(|test| !present.contains(*test)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
