use std::fs;
use std::path::Path;

use crate::store::redis::scripts::Scripts;

/// The server pays for each instruction of a turn, so its code changes only on purpose: a commit
/// that changes a hash says why. Neither comments nor the cut into parts change one.
#[test]
fn the_code_of_the_scripts_is_pinned() {
    let scripts = Scripts::new();
    for (script, hash) in [
        (&scripts.turn, "0cdf0a84abfa31db23a6c96d8d6534f17bce3117"),
        (&scripts.inspect, "4fed33f41d06c82592b81eb5fdb38080d6ee7e3b"),
        (&scripts.set_limit, "b9884de6a791e7e8dfc0fabc21e64be8ad6aeeba"),
        (&scripts.kick, "68563f29dc4ea84e49bf9099ae969f48bd24eb5e"),
    ] {
        assert_eq!(script.hash, hash, "{}", script.text);
    }
}

#[test]
fn each_part_of_the_turn_names_a_twin_in_the_memory_store() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for part in fs::read_dir(root.join("lua/turn")).unwrap() {
        let path = part.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let twin = text.lines().find_map(|line| line.strip_prefix("--- Twin"));
        let twin = twin.unwrap_or_else(|| panic!("{}: no twin is named", path.display())).trim();
        assert!(root.join(twin).is_file(), "{}: there is no {twin}", path.display());
    }
}
