//! Many random cases; one that fails is shrunk to the steps that it takes.

use std::sync::Mutex;

use proptest::collection::vec;
use proptest::test_runner::{Config, TestRunner};

use crate::sync::lock;

use super::generator::step;
use super::harness::Harness;

#[test]
fn memory_and_redis_give_the_same_replies_to_10_000_random_turns() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let harness = Mutex::new(runtime.block_on(Harness::start()));
    let config = Config { cases: 210, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config)
        .run(&vec(step(), 1..200), |steps| runtime.block_on(lock(&harness).run(steps)));
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let turns = lock(&harness).turns();
    assert!(turns >= 10_000, "only {turns} turns were compared");
}
