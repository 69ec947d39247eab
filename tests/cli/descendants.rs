//! What a command has started, whatever it does so as not to be found.

use std::fs::File;

use futures_util::future::join_all;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Signal, kill_process};
use test_support::redis_server::RedisServer;
use test_support::wait::{eventually, within};

use crate::program::{LONG, Program, bash, is_alive, semaphore};

/// Each process of it starts the next one and ends. All hold a lock, so the lock is free once none is left. They end by
/// themselves when the folder is gone.
const CHAIN: &str = "trap '' TERM; exec 9>$DIR/lock; flock 9
    chain() { [ -e $DIR/lock ] && chain & }
    echo ready; chain; sleep 600 9>&-";

/// Whether none of them is left.
pub(crate) fn is_free(lock: &File) -> bool {
    flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok()
}

#[tokio::test]
async fn a_chain_of_processes_that_start_the_next_one_and_end_is_dead_before_the_next_holder_starts()
 {
    let server = RedisServer::start().await;
    for round in 0..10 {
        let name = format!("s{round}");
        let operator = semaphore(&server, &name, 1).await;
        let program =
            Program::run(&server.url(), &format!("--lease 4s --grace 100ms {name}"), CHAIN);
        program.says("ready").await;
        let holder = operator.inspect().await.unwrap().holders[0].id;
        let next = tokio::spawn(operator.acquire(1));
        operator.kick(holder).await.unwrap();
        let permit = within(LONG, next).await.unwrap().unwrap();
        assert!(is_free(&program.file("lock")), "the next one was let in before, round {round}");
        assert_eq!(program.status().await, 76);
        drop(permit);
    }
}

#[tokio::test]
async fn a_killed_zsem_takes_such_chains_along() {
    let server = RedisServer::start().await;
    let chains = (0..10).map(async |_| {
        let mut program = Program::run(&server.url(), "-n 10 s", CHAIN);
        program.says("ready").await;
        let lock = program.file("lock");
        program.process().kill();
        eventually("none of them is left", LONG, async || is_free(&lock)).await;
    });
    join_all(chains).await;
}

#[tokio::test]
async fn what_children_from_before_leave_behind_is_not_of_the_command() {
    let server = RedisServer::start().await;
    let line = "sh -c 'sh -c \"echo pid \\$\\$; exec sleep 600\" & while [ ! -e $DIR/go ]; do sleep 0.02; done' &
        exec \"$0\" run --max-hold 2s --grace 100ms s -- sh -c 'echo ready; touch $DIR/go; exec sleep 60'";
    let program = Program::of(&mut bash(&server, line));
    let stranger = program.pid_of_command().await;
    assert_eq!(program.status().await, 76);
    assert!(is_alive(stranger));
    kill_process(stranger, Signal::KILL).unwrap();
}
