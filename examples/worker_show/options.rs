//! The command line.

use std::time::Duration;

use clap::Parser;

use crate::common::cli::{REDIS_URL_HELP, millis, number};

/// Runs jobs that weigh 1 to 3 units each, and never more units at once than the limit. Ctrl-c and
/// SIGTERM let the jobs that run come to their end, and start no others.
#[derive(Parser)]
#[command(name = "worker_show", after_help = REDIS_URL_HELP)]
#[command(verbatim_doc_comment, allow_negative_numbers = true)]
pub(crate) struct Options {
    /// how many jobs there are
    #[arg(long, value_name = "N", value_parser = number::<usize>, default_value = "40")]
    pub(crate) jobs: usize,
    /// how many workers run them, one at a time each
    #[arg(long, value_name = "N", value_parser = number::<usize>, default_value = "4")]
    pub(crate) workers: usize,
    /// how many units may run at once
    #[arg(long, value_name = "N", value_parser = number::<u32>, default_value = "6")]
    pub(crate) limit: u32,
    /// workers with the same name share the limit
    #[arg(long, default_value = "jobs")]
    pub(crate) name: String,
    /// how long a job takes, in milliseconds
    #[arg(long, value_name = "N", value_parser = millis, default_value = "200")]
    pub(crate) job_ms: Duration,
    /// how long the units of a crashed worker stay taken, in milliseconds
    #[arg(long, value_name = "N", value_parser = millis, default_value = "10000")]
    pub(crate) lease_ms: Duration,
}
