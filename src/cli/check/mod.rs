//! `zsem check`: whether Redis is as semaphores need it.

mod finding;
mod rights;
mod server;
mod turns;

use zset_semaphore::Client;

use crate::args::Global;
use crate::client::own_label;
use crate::failure::Failure;
use crate::status::Status;
use crate::waiting::leave;

use finding::{Finding, Level};

/// The name of the semaphore that the check uses, if none is given, with a random end.
const NAME: &str = "zsem-check";

pub(crate) async fn check(global: &Global, name: Option<&str>) -> Result<Status, Failure> {
    global.may_change()?;
    let mut findings = Vec::new();
    let name = name.map_or_else(|| format!("{NAME}-{:08x}", fastrand::u32(..)), str::to_owned);
    let end = examine(global, &name, &mut findings).await;
    if let Err(failure) = &end {
        findings.push(Finding::fail("connection", failure.message()));
    }
    global.tell(&findings, || finding::table(&findings).text(global.colors()))?;
    if let Err(failure) = end {
        return Ok(failure.status());
    }
    let failed = findings.iter().any(|finding| finding.level == Level::Fail);
    Ok(if failed { Status::NO } else { Status::OK })
}

async fn examine(global: &Global, name: &str, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let client = global.connect(&own_label()).await?;
    findings.push(Finding::ok("connection", "Redis answers"));
    match server::direct(&global.url()?.text) {
        Some(direct) => match server::connect(&direct, global.call_deadline).await {
            Ok(mut connection) => {
                server::examine(&mut connection, findings).await?;
                rights::examine(&mut connection, &global.prefix, findings).await?;
            }
            Err(failure) => findings
                .push(Finding::warn("server", format!("not looked at: {}", failure.message()))),
        },
        None => findings.push(Finding::ok(
            "server",
            "settings and rights are not looked at here: name one server by redis://",
        )),
    }
    let other = global.connect(&own_label()).await?;
    let end = use_it(&client, &other, name, findings).await;
    leave(&other).await;
    leave(&client).await;
    end
}

async fn use_it(
    client: &Client,
    other: &Client,
    name: &str,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    if findings.iter().any(|finding| finding.level == Level::Fail) {
        return Ok(()); // what fails is told already
    }
    findings.extend(turns::examine(client, other, name).await?);
    Ok(())
}
