//! Keeps a run for those who have not made it: `benches/results`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::report::Transcript;
use test_support::server_program;

/// Writes what was printed, and the charts, beside a description of the machine.
pub(crate) fn save(transcript: Transcript) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
    fs::create_dir_all(&directory).expect("making benches/results");
    let mut text = format!(
        "# Load\n\n\
         Written by `cargo bench --bench load -- --save`. Figures of other machines differ: look at the ratios.\n\n\
         {}\n",
        machine()
    );
    for (name, chart) in &transcript.charts {
        let file = format!("{name}.svg");
        fs::write(directory.join(&file), chart).expect("writing a chart");
        text += &format!("\n![{name}]({file})\n");
    }
    text += &format!("\n```text{}```\n", transcript.text);
    fs::write(directory.join("load.md"), text).expect("writing the results");
    println!("\nKept in benches/results.");
}

/// One line for each thing that the figures depend on.
fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let virtual_ = if cpuinfo.contains("hypervisor") { ", virtual" } else { "" };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let redis = said(server_program::server().arg("--version"));
    let redis = redis.split(" sha=").next().unwrap_or_default().to_owned();
    let rustc = said(Command::new("rustc").arg("--version"));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "- {model}, {cores} cores{virtual_}; load average at the end {load}\n\
         - Linux {}; {redis}; {rustc}\n\
         - client and server on the same machine, by TCP over loopback",
        kernel.trim()
    )
}

fn said(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}
