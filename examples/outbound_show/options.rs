//! The command line.

use clap::Parser;

use crate::common::cli::{REDIS_URL_HELP, http_url, number};

/// Calls a provider that answers 429 to a caller who calls too often at once: without a cap, then with
/// capped clients, one of hyper-util and one of reqwest. Ends with a table.
#[derive(Parser)]
#[command(name = "outbound_show", after_help = REDIS_URL_HELP)]
#[command(verbatim_doc_comment, allow_negative_numbers = true)]
pub(crate) struct Options {
    /// the provider; without it, a stand-in for each client
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub(crate) provider: Option<String>,
    /// serve as a stand-in provider: POST /complete, GET /stats
    #[arg(long, value_name = "ADDR")]
    pub(crate) provider_only: Option<String>,
    /// how many calls at once the stand-in allows
    #[arg(long, value_name = "N", value_parser = number::<usize>, default_value = "4")]
    pub(crate) allowed: usize,
    /// how many calls at once the cap lets out
    #[arg(long, value_name = "N", value_parser = number::<u32>, default_value = "4")]
    pub(crate) limit: u32,
    /// processes with the same name share the limit
    #[arg(long, default_value = "provider-calls")]
    pub(crate) name: String,
    /// how many callers there are
    #[arg(long, value_name = "N", value_parser = number::<usize>, default_value = "12")]
    pub(crate) callers: usize,
    /// how many calls they make in total
    #[arg(long, value_name = "N", value_parser = number::<usize>, default_value = "60")]
    pub(crate) calls: usize,
}
