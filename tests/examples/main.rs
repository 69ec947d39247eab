//! The examples, run as their users run them: real processes, real sockets, a real Redis.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

mod axum_example;
mod command_line;
mod curl;
mod llm_gateway;
mod llm_gateway_serve;
mod outbound;
mod outbound_show;
mod process;
mod quickstart;
mod table;
mod tonic_example;
mod tonic_service;
mod upstream;
mod worker;
mod worker_show;

use test_support::child_role;

#[test]
fn child_process() {
    child_role::play(|role, _| match role {
        "chat client" => curl::chat_client(),
        _ => panic!("no role {role}"),
    });
}
