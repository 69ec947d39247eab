//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use zset_semaphore::{ClientId, PermitId};

use crate::status::Status;
use crate::times;

/// Caps how many commands run at the same time, across all machines.
///
/// Semaphores are counted in Redis. A permit is renewed while its command runs, and its units are free again when
/// the command has ended, or when its machine has died.
#[derive(Debug, Parser)]
#[command(name = "zsem", version, after_help = STATUS_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// The exit statuses, a line each: the number, two blanks or more, and what it means.
pub(crate) const STATUS_HELP: &str = "\
Exit status:
  0    done; `run`: that of the command, or 128 + N if signal N ended it
  1    the answer is no
  64   the command line is wrong
  69   Redis does not answer
  71   the system refuses something
  75   no permit (`run -E` sets another one)
  76   the permit was lost, and the command was stopped
  77   Redis refuses
  78   a setting is wrong
  126  the command cannot be run
  127  there is no such command";

#[derive(Debug, Args)]
#[command(next_help_heading = "Options of all commands")]
pub(crate) struct Global {
    /// The URL of Redis: redis://, rediss://, unix://, redis+sentinel:// or redis+cluster:// [default: $ZSEM_URL,
    /// else $REDIS_URL, else redis://127.0.0.1:6379]
    #[arg(short, long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// A file whose one line is the URL, which keeps passwords out of the list of processes
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) url_file: Option<PathBuf>,
    /// The prefix of all keys
    #[arg(long, global = true, value_name = "TEXT", default_value = "zsem:")]
    pub(crate) prefix: String,
    /// How long to wait for one answer of Redis
    #[arg(long, global = true, value_name = "DUR", default_value = "3s", value_parser = times::parse)]
    pub(crate) call_deadline: Duration,
    /// Prints JSON on standard output; errors are text on standard error all the same
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Whether tables are in colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
    /// Refuses what would change anything
    #[arg(long, global = true)]
    pub(crate) read_only: bool,
    /// Prints log lines on standard error: -v warnings, -vv also information and details, -vvv everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Waits for a permit, runs a command, and gives the permit back
    Run(RunArgs),
    /// Holds a permit until standard input ends, or a signal comes
    Hold(HoldArgs),
    /// Lists the semaphores
    Ls {
        /// Lists only names that match: * stands for any text, ? for one character
        pattern: Option<String>,
    },
    /// Shows who holds and who waits
    Show {
        /// The name of the semaphore, as `zsem ls` prints it
        name: String,
    },
    /// Shows the limit, or overrides it for the whole cluster
    Limit {
        /// The name of the semaphore
        name: String,
        /// The override
        #[arg(value_name = "N", value_parser = number, allow_negative_numbers = true)]
        limit: Option<u32>,
        /// Removes the override
        #[arg(long, conflicts_with = "limit")]
        clear: bool,
    },
    /// Lets nobody in: overrides the limit with 0
    Pause {
        /// The name of the semaphore
        name: String,
    },
    /// Removes the override of the limit, and so ends a pause
    Resume {
        /// The name of the semaphore
        name: String,
    },
    /// Ends permits of others
    Kick(KickArgs),
    /// Checks whether Redis is as semaphores need it
    Check {
        /// The name of the semaphore that is used [default: zsem-check-, with a random end]
        name: Option<String>,
    },
    /// Prints the key under which a keyed limit counts a secret; reads the secret from standard input
    Hash {
        /// Reads the secret from a file
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
    },
    /// Prints the completions for a shell
    Completions { shell: Shell },
    /// Prints the manual page
    Man,
}

const RUN_USAGE: &str = "zsem run [OPTIONS] NAME -- COMMAND [ARGUMENT]...
       zsem run [OPTIONS] NAME -c LINE";

const KICK_USAGE: &str = "zsem kick [OPTIONS] NAME ID...
       zsem kick [OPTIONS] NAME --client ID
       zsem kick [OPTIONS] NAME --label TEXT";

#[derive(Debug, Args)]
pub(crate) struct PermitArgs {
    /// How many units may be held at once [default: what others have declared, else 1]
    #[arg(short = 'n', long, value_name = "N", value_parser = positive, allow_negative_numbers = true)]
    pub(crate) limit: Option<u32>,
    /// How many units to hold
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive, allow_negative_numbers = true)]
    pub(crate) units: u32,
    /// How long to wait for the permit [default: for ever]
    #[arg(short = 'w', long = "wait", value_name = "DUR", value_parser = times::parse)]
    pub(crate) wait: Option<Duration>,
    /// Does not wait
    #[arg(long = "try", conflicts_with = "wait")]
    pub(crate) tries: bool,
    /// Does not wait if as many wait already
    #[arg(long, value_name = "N", value_parser = number, allow_negative_numbers = true)]
    pub(crate) max_queue: Option<u32>,
    /// How long the units stay in use after this machine has died
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = times::parse)]
    pub(crate) lease: Duration,
    /// How long to hold the permit at most [default: for ever]
    #[arg(long, value_name = "DUR", value_parser = times::parse)]
    pub(crate) max_hold: Option<Duration>,
    /// What `zsem show` prints for this holder [default: HOST/PID]
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
    /// Prints nothing if there is no permit, and shows no wait; errors are printed all the same
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The name of the semaphore
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    #[command(flatten)]
    pub(crate) permit: PermitArgs,
    /// Holds until a signal comes, and does not read standard input: for `zsem hold NAME &` in a script
    #[arg(long)]
    pub(crate) until_signal: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["command", "shell"]), override_usage = RUN_USAGE)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) permit: PermitArgs,
    /// The exit status if there is no permit
    #[arg(short = 'E', long, value_name = "CODE", default_value = "75", value_parser = status, allow_negative_numbers = true)]
    pub(crate) conflict_status: Status,
    /// What happens when the permit is lost
    #[arg(long, value_name = "WHAT", default_value = "stop")]
    pub(crate) when_lost: WhenLost,
    /// How long the command has to end after the signal, before it is killed [default: a third of the lease, at most
    /// 10s]
    #[arg(long, value_name = "DUR", value_parser = times::parse)]
    pub(crate) grace: Option<Duration>,
    /// The signal that asks the command to end
    #[arg(long, value_name = "SIG", default_value = "TERM", value_parser = crate::signals::parse)]
    pub(crate) signal: rustix::process::Signal,
    /// Runs a line of the shell
    #[arg(short = 'c', long, value_name = "LINE")]
    pub(crate) shell: Option<OsString>,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WhenLost {
    /// The command is asked to end in time, and is killed before anybody else is let in
    Stop,
    /// The command goes on, and a warning is printed
    Keep,
}

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("whom").required(true).multiple(true).args(["ids", "client", "label"]),
    override_usage = KICK_USAGE
)]
pub(crate) struct KickArgs {
    /// The name of the semaphore
    pub(crate) name: String,
    /// The ids of permits, as `zsem show` prints them
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<PermitId>,
    /// All permits of a client
    #[arg(long, value_name = "ID")]
    pub(crate) client: Option<ClientId>,
    /// All permits with a label
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
    /// Frees the units at once, before the holders know: for holders that are known to be dead
    #[arg(long)]
    pub(crate) now: bool,
    /// Does not ask whether it is meant
    #[arg(short, long)]
    pub(crate) yes: bool,
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("allowed: 0 to {}", u32::MAX))
}

fn positive(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("allowed: 1 to {}", u32::MAX))
}

fn status(text: &str) -> Result<Status, String> {
    text.parse().map(Status::Code).map_err(|_| "a status is a number from 0 to 255".to_owned())
}
