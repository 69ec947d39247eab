//! The command line.

use std::time::Duration;

use clap::Parser;
use zset_semaphore::tower::OutagePolicy;

use crate::common::Result;
use crate::common::cli::{REDIS_URL_HELP, http_url, number, seconds};

/// Streams chat answers from an upstream, and caps how many streams run at once. Without --serve it
/// lets a crowd of clients chat through itself, and ends with a table.
#[derive(Parser)]
#[command(name = "llm_gateway", after_help = REDIS_URL_HELP)]
#[command(verbatim_doc_comment, allow_negative_numbers = true)]
pub(crate) struct Options {
    /// serve as a gateway: curl -N http://ADDR/chat -d '{"max_tokens": 200}';
    /// built with the feature `metrics`, it has http://ADDR/metrics, too
    #[arg(verbatim_doc_comment, long, value_name = "ADDR")]
    pub(crate) serve: Option<String>,
    /// where the answers come from; without it, a stand-in of its own
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub(crate) upstream: Option<String>,
    /// serve as a stand-in upstream: POST /chat, GET /stats
    #[arg(long, value_name = "ADDR")]
    pub(crate) upstream_only: Option<String>,
    /// how many streams may run at once
    #[arg(long, value_name = "N", value_parser = number::<u32>, default_value = "16")]
    pub(crate) limit: u32,
    /// how many of them for one x-api-key, and for all without one
    #[arg(long, value_name = "N", value_parser = number::<u32>, default_value = "4")]
    pub(crate) per_key: u32,
    /// gateways with the same name share the limits
    #[arg(long, default_value = "chat-streams")]
    pub(crate) name: String,
    /// how long a request may queue for either before it is turned away
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "60")]
    pub(crate) max_wait: Duration,
    /// what to do with requests while Redis is away: `closed` turns them away,
    /// `open` lets them in, `local:N` lets N at once into this process
    #[arg(verbatim_doc_comment, long, value_name = "POLICY", value_parser = outage_policy, default_value = "closed")]
    pub(crate) outage: OutagePolicy,
    /// how many clients the crowd has
    #[arg(long, value_name = "N", value_parser = number::<usize>, default_value = "64")]
    pub(crate) clients: usize,
    /// how many API keys these share
    #[arg(long, value_name = "N", value_parser = number::<usize>, default_value = "8")]
    pub(crate) keys: usize,
    /// how many answers they want in total
    #[arg(long, value_name = "N", value_parser = number::<usize>, default_value = "240")]
    pub(crate) streams: usize,
}

fn outage_policy(value: &str) -> Result<OutagePolicy> {
    match value.split_once(':') {
        None if value == "closed" => return Ok(OutagePolicy::FailClosed),
        None if value == "open" => return Ok(OutagePolicy::FailOpen),
        Some(("local", cap)) => {
            if let Ok(cap) = number(cap) {
                return Ok(OutagePolicy::LocalCap(cap));
            }
        }
        _ => {}
    }
    Err("it must be closed, open or local:N with N above 0".into())
}
