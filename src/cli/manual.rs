//! `zsem completions`, `zsem man`: what a package installs beside the program.

use std::io::{self, Write};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::args::{Cli, STATUS_HELP};
use crate::failure::Failure;
use crate::output::print;
use crate::status::Status;

pub(crate) fn completions(shell: Shell) -> Result<Status, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "zsem", &mut text);
    print(&String::from_utf8_lossy(&text))?;
    Ok(Status::OK)
}

/// Prints one page, with a section for each verb.
pub(crate) fn man() -> Result<Status, Failure> {
    let page = manual().map_err(|error| Failure::of_system("the manual", &error))?;
    print(&String::from_utf8_lossy(&page))?;
    Ok(Status::OK)
}

fn manual() -> io::Result<Vec<u8>> {
    let mut all = Cli::command();
    all = all.disable_help_subcommand(true);
    all.build();
    let mut page = Vec::new();
    let whole = Man::new(all.clone());
    whole.render_title(&mut page)?;
    whole.render_name_section(&mut page)?;
    page.extend(b".SH SYNOPSIS\nzsem [OPTIONS] COMMAND ...\n");
    whole.render_description_section(&mut page)?;
    whole.render_options_section(&mut page)?;
    for verb in all.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        // A page of its own would repeat them.
        let own = verb.clone().mut_args(|arg| {
            let is_own = !arg.is_global_set() && arg.get_id() != "help";
            arg.hide(!is_own)
        });
        page.extend(section(own)?);
    }
    write!(page, "{}", statuses())?;
    Ok(page)
}

/// The section of a verb: how it is called, what it does, its own options.
fn section(mut verb: Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    write!(page, ".SH \"ZSEM {}\"\n.nf\n", verb.get_name().to_uppercase())?;
    let usage = verb.render_usage().to_string();
    for line in usage.trim_start_matches("Usage:").lines() {
        writeln!(page, "{}", escaped(line.trim()))?;
    }
    let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
    write!(page, ".fi\n.PP\n{about}.\n")?;
    let mut options = Vec::new();
    Man::new(verb).render_options_section(&mut options)?;
    let options = String::from_utf8_lossy(&options).replace(".SH OPTIONS", ".SS Options");
    write!(page, "{options}")?;
    Ok(page)
}

/// The section of the exit statuses.
fn statuses() -> String {
    let lines = STATUS_HELP.lines().skip(1).filter_map(|line| line.trim().split_once(' '));
    let entries =
        lines.map(|(number, means)| format!(".TP\n{number}\n{}\n", escaped(means.trim())));
    format!(".SH \"EXIT STATUS\"\n{}", entries.collect::<String>())
}

/// A line as roff prints it.
fn escaped(line: &str) -> String {
    line.replace('\\', "\\\\").replace('-', "\\-")
}
