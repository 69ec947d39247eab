use std::fs;
use std::path::Path;

use crate::store::redis::scripts::Scripts;

/// A turn is paid for by the server, so a change of its text is a decision: a commit that changes a
/// hash says why. How the parts are cut must not change any.
#[test]
fn the_parts_join_to_the_same_bytes() {
    let scripts = Scripts::new();
    for (script, hash) in [
        (&scripts.turn, "bc7ea66629a40b60a17292d20c3ad3c8cf41fa55"),
        (&scripts.inspect, "2e32058949b6b3d4195780ee15b8a4e342d757b1"),
        (&scripts.set_limit, "d213a41ae4243f4d54bd5f1a89750cecbb25ad1f"),
        (&scripts.kick, "8b5c320aab0f714513b4fccd9672423b0d3ea36d"),
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
