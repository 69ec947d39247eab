//! The hosts of a URL.

use super::address::Address;
use super::problem::Problem;
use super::query::Query;

/// Reads one host.
pub(super) fn one(text: &str, port: u16) -> Result<Address, Problem> {
    if text.contains(',') {
        return Err(
            "it has several hosts; a list needs redis+sentinel:// or redis+cluster://".into()
        );
    }
    Address::read(text, port).map_err(|wrong| wrong.of("the host"))
}

/// Reads hosts with commas between them.
pub(super) fn list(text: &str, port: u16) -> Result<Vec<Address>, Problem> {
    if text.is_empty() {
        return Err("the host is missing".into());
    }
    let read = |(place, text)| {
        let name = || format!("host {} of the list", place + 1);
        Address::read(text, port).map_err(|wrong| wrong.of(&name()))
    };
    text.split(',').enumerate().map(read).collect()
}

/// Adds the hosts that the query names, as some other clients write lists.
pub(super) fn more(seeds: &mut Vec<Address>, query: &mut Query, port: u16) -> Result<(), Problem> {
    for text in query.take_all("node") {
        let address = Address::read(&text, port);
        seeds.push(address.map_err(|wrong| wrong.of("the host of a parameter `node`"))?);
    }
    Ok(())
}
