//! `zsem completions`, `zsem man`: what a package installs beside the program.

use std::io;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
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
    all.build();
    let mut page = Vec::new();
    clap_mangen::Man::new(all.clone()).render(&mut page)?;
    for verb in all.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let name = verb.get_name().to_uppercase();
        page.extend(format!(".SH \"ZSEM {name}\"\n").into_bytes());
        let verb = clap_mangen::Man::new(verb.clone());
        verb.render_synopsis_section(&mut page)?;
        verb.render_description_section(&mut page)?;
        verb.render_options_section(&mut page)?;
    }
    Ok(page)
}
