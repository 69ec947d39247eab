//! What a user of the crate has to build, by the features that are chosen.

use std::collections::BTreeSet;
use std::process::Command;

/// The names of all crates that are built for a user with these features alone.
fn crates_built_with(features: &str) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--package", env!("CARGO_PKG_NAME"), "--edges", "normal,build"])
        .args(["--no-default-features", "--features", features])
        .args(["--prefix", "none", "--format", "{p}", "--offline", "--locked"]);
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    tree.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn a_worker_builds_none_of_the_crates_that_only_the_tower_layer_needs() {
    let layer = [
        "base64",
        "http",
        "http-body",
        "httpdate",
        "lru",
        "metrics",
        "reqwest",
        "sha2",
        "tower-layer",
        "tower-service",
    ];
    let worker = crates_built_with("redis");
    assert!(worker.contains("redis") && worker.contains("tokio"), "{worker:?}");
    let needless: Vec<_> = layer.iter().filter(|&&name| worker.contains(name)).collect();
    assert!(needless.is_empty(), "a worker builds {needless:?}");

    let server = crates_built_with("redis,metrics,reqwest");
    let unknown: Vec<_> = layer.iter().filter(|&&name| !server.contains(name)).collect();
    assert!(unknown.is_empty(), "these are no dependencies any more: {unknown:?}");
}

#[test]
fn the_store_in_memory_alone_builds_no_redis_client() {
    let crates = crates_built_with("");
    assert!(crates.contains("tokio") && !crates.contains("redis"), "{crates:?}");
}
