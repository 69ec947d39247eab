//! The command line.

use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::common::cli::{REDIS_URL_HELP, number, seconds};

/// A gRPC service that streams chat answers, and caps how many stream at once. Without --serve and
/// --call it lets a crowd of clients chat with itself, and ends with a table.
#[derive(Parser)]
#[command(name = "tonic_service", after_help = REDIS_URL_HELP)]
#[command(verbatim_doc_comment, allow_negative_numbers = true)]
pub(crate) struct Options {
    /// serve
    #[arg(long, value_name = "ADDR")]
    pub(crate) serve: Option<String>,
    /// chat once with the service there, and print what it says
    #[arg(long, value_name = "URL")]
    pub(crate) call: Option<String>,
    /// what the cap is for: the whole server, or this service alone
    #[arg(long, value_name = "WHERE", default_value = "server")]
    pub(crate) mount: Mount,
    /// how many answers may stream at once
    #[arg(long, value_name = "N", value_parser = number::<u32>, default_value = "4")]
    pub(crate) limit: u32,
    /// services with the same name share the limit
    #[arg(long, default_value = "grpc-chats")]
    pub(crate) name: String,
    /// how long a call may queue before it is turned away
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "3")]
    pub(crate) max_wait: Duration,
    /// how many clients the crowd has, with a channel each
    #[arg(long, value_name = "N", value_parser = number::<usize>, default_value = "16")]
    pub(crate) clients: usize,
    /// how many answers they want in total
    #[arg(long, value_name = "N", value_parser = number::<usize>, default_value = "48")]
    pub(crate) chats: usize,
    /// how many tokens an answer has
    #[arg(long, value_name = "N", value_parser = number::<u32>, default_value = "10")]
    pub(crate) tokens: u32,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Mount {
    Server,
    Service,
}
