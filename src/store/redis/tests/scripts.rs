use std::fs;
use std::path::{Path, PathBuf};

use crate::store::redis::scripts::Scripts;
use crate::store::redis::wire::names;

/// The server pays for each instruction of a turn, so its code changes only on purpose: a commit that
/// changes a hash says why. Neither comments nor the division into parts change a hash.
#[test]
fn the_code_of_the_scripts_is_pinned() {
    let scripts = Scripts::new();
    for (script, hash) in [
        (&scripts.turn, "f7e8124bb91ea224bf247a30e7afd503abe12f94"),
        (&scripts.inspect, "bd689c74aeab3e6dd491ab1366d5b8ae8c62831e"),
        (&scripts.set_limit, "1e3a3ff5435df0c1514cf2faa0b4b17484a4a2d4"),
        (&scripts.kick, "00d740cdb6f3db2470ae06caaf2e27821b6f44ff"),
        (&scripts.touch, "70abee34f9241849df96a8350ec7ad510c7d7826"),
    ] {
        assert_eq!(script.hash, hash, "{}", script.text);
    }
}

/// In a cluster, only the messages are others.
#[test]
fn the_scripts_of_a_cluster_publish_within_the_shard() {
    let [plain, sharded] = [Scripts::new(), Scripts::in_cluster()];
    for (plain, sharded) in plain.all().into_iter().zip(sharded.all()) {
        assert_eq!(plain.text.contains("'PUBLISH'"), sharded.text.contains("'SPUBLISH'"));
    }
    assert!(!plain.turn.text.contains("SPUBLISH"));
    assert_eq!(plain.inspect.hash, sharded.inspect.hash);
}

/// A name that the crate does not know would be a variable of Lua, which is nil.
#[test]
fn each_name_of_the_crate_is_known_and_used() {
    let joined: String = Scripts::new().all().map(|script| script.text.clone()).concat();
    let names = names::all();
    let texts = lua_files().into_iter().map(|path| fs::read_to_string(path).unwrap());
    let texts: String = texts.collect();
    for (name, _) in &names {
        assert!(texts.contains(name), "{name} is defined, and no script says it");
        assert!(!joined.contains(name), "{name} is not replaced");
        let longer = |other: &str| other != *name && other.starts_with(name);
        assert!(!names.iter().any(|(other, _)| longer(other)), "{name} begins another name");
    }
    for (group, _) in names.iter().filter_map(|(name, _)| name.split_once('.')) {
        assert!(!joined.contains(&format!("{group}.")), "a name of {group} is not known");
    }
}

#[test]
fn each_file_of_the_scripts_is_part_of_one() {
    let text = |scripts: Scripts| scripts.all().map(|script| script.text.clone()).concat();
    let joined = text(Scripts::new()) + &text(Scripts::in_cluster());
    for path in lua_files() {
        let text = fs::read_to_string(&path).unwrap();
        let is_code = |line: &&str| !line.trim_start().starts_with("--") && !line.contains('.');
        let line = text.lines().filter(is_code).max_by_key(|line| line.len()).unwrap();
        assert!(joined.contains(line), "{}: {line} is in no script", path.display());
    }
}

#[test]
fn each_step_has_a_twin_in_the_memory_store() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = [
        "keys.lua",
        "prelude.lua",
        "clock.lua",
        "server.lua",
        "wake.lua",
        "wake_in_shard.lua",
        "touch.lua", // memory has no replicas
    ]
    .map(|name| root.join("lua").join(name));
    for path in lua_files().into_iter().filter(|path| !shared.contains(path)) {
        let text = fs::read_to_string(&path).unwrap();
        let twin = text.lines().find_map(|line| line.strip_prefix("--- Twin"));
        let twin = twin.unwrap_or_else(|| panic!("{}: no twin is named", path.display())).trim();
        assert!(root.join(twin).is_file(), "{}: there is no {twin}", path.display());
    }
    for step in fs::read_dir(root.join("src/store/memory/turn")).unwrap() {
        let path = step.unwrap().path();
        let twin = root.join("lua/turn").join(path.file_stem().unwrap()).with_extension("lua");
        let is_step = path.file_name().unwrap() != "mod.rs";
        assert!(!is_step || twin.is_file(), "there is no {}", twin.display());
    }
}

fn lua_files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("lua");
    let files = |folder: &Path| fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let is_lua = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "lua");
    files(&root).chain(files(&root.join("turn"))).filter(is_lua).collect()
}
