use std::fs;
use std::path::Path;

use crate::store::redis::scripts::Scripts;

/// The server pays for each instruction of a turn, so its code changes only on purpose: a commit
/// that changes a hash says why. Neither comments nor the cut into parts change one.
#[test]
fn the_code_of_the_scripts_is_pinned() {
    let scripts = Scripts::new();
    for (script, hash) in [
        (&scripts.turn, "65bdba7bb0f13ce6f89110d0d03b90fd448b7816"),
        (&scripts.inspect, "382607256dc6e3b062aa1fa6f528d41a9e1b99f2"),
        (&scripts.set_limit, "96061b65e485d0cfb156f8baa80279374f4baa25"),
        (&scripts.kick, "1b959598f930d76d6199a5a1260a72bb9827a026"),
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
