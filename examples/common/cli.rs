//! The command line: what is wrong with it is told in one sentence, with exit code 2.

use std::error::Error;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use axum::http::Uri;
use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Result;
use super::output::print;

/// The end of every `--help`.
pub(crate) const REDIS_URL_HELP: &str = "\
With REDIS_URL=redis://[user:password@]host[:port] the count is in Redis, and the limit is that of
all processes together. Without it, the count is in this process.";

/// Parses the command line and runs the show.
pub(crate) async fn run<O: Parser>(show: impl AsyncFnOnce(O) -> Result<ExitCode>) -> ExitCode {
    let outcome = match O::try_parse() {
        Ok(options) => show(options).await,
        Err(help) if help.kind() == ErrorKind::DisplayHelp => {
            print(help);
            return ExitCode::SUCCESS;
        }
        Err(error) => Err(sentence(&error).into()),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("{}: {error}", O::command().get_name());
        ExitCode::from(2)
    })
}

fn sentence(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => &**text,
        _ => "",
    };
    let argument = context(ContextKind::InvalidArg); // with what stands for its value: `--limit <N>`
    let name = argument.split(' ').next().unwrap_or_default();
    let value = context(ContextKind::InvalidValue);
    match (error.kind(), error.get(ContextKind::ValidValue), error.source()) {
        (ErrorKind::UnknownArgument, ..) => format!("unknown argument `{name}`; try --help"),
        (ErrorKind::InvalidValue, ..) if value.is_empty() => format!("{name} needs a value"),
        (ErrorKind::InvalidValue, Some(ContextValue::Strings(valid)), _) => {
            format!("{name} is `{value}`; it must be {}", valid.join(" or "))
        }
        (ErrorKind::ValueValidation, _, Some(why)) => format!("{name} is `{value}`; {why}"),
        _ => error.to_string(),
    }
}

/// A number that is not zero.
pub(crate) fn number<N: FromStr + Default + PartialEq>(value: &str) -> Result<N> {
    match value.parse() {
        Ok(number) if number != N::default() => Ok(number),
        _ => Err("it must be a whole number above 0".into()),
    }
}

pub(crate) fn seconds(value: &str) -> Result<Duration> {
    number(value).map(Duration::from_secs)
}

pub(crate) fn millis(value: &str) -> Result<Duration> {
    number(value).map(Duration::from_millis)
}

/// A URL without a slash at its end.
pub(crate) fn http_url(value: &str) -> Result<String> {
    match value.parse::<Uri>() {
        Ok(url) if url.scheme_str() == Some("http") => Ok(value.trim_end_matches('/').to_owned()),
        _ => Err("it must be like http://host:port".into()),
    }
}
