//! `zsem check`: whether Redis is as semaphores need it.

mod finding;
mod rights;
mod server;
mod turns;

use redis::aio::MultiplexedConnection;

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
    let end = examine(global, name, &mut findings).await;
    if let Err(failure) = &end {
        let what = if findings.is_empty() { "connection" } else { "semaphore" };
        findings.push(Finding::fail(what, failure.message()));
    }
    global.tell(&findings, || finding::table(&findings).text(global.colors()))?;
    if let Err(failure) = end {
        return Ok(failure.status());
    }
    let failed = findings.iter().any(|finding| finding.level == Level::Fail);
    Ok(if failed { Status::NO } else { Status::OK })
}

async fn examine(
    global: &Global,
    name: Option<&str>,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    let client = global.connect(&own_label()).await?;
    findings.push(Finding::ok("connection", "Redis answers"));
    let direct = look_at(global, findings).await?;
    if findings.iter().any(|finding| finding.level == Level::Fail) {
        leave(&client).await;
        return Ok(()); // what fails is told already
    }
    let own = format!("{NAME}-{:08x}", fastrand::u32(..));
    let other = global.connect(&own_label()).await?;
    let found = turns::examine(&client, &other, name.unwrap_or(&own)).await;
    leave(&other).await;
    leave(&client).await;
    if let (None, Some(mut direct)) = (name, direct) {
        server::forget(&mut direct, &global.prefix, &own).await;
    }
    findings.extend(found?);
    Ok(())
}

/// Looks at the settings and the rights, if the URL names one server. Returns the connection to it.
async fn look_at(
    global: &Global,
    findings: &mut Vec<Finding>,
) -> Result<Option<MultiplexedConnection>, Failure> {
    let Some(direct) = server::direct(&global.url()?.text) else {
        let told = "settings and rights are not looked at here: name one server by redis://";
        findings.push(Finding::ok("server", told));
        return Ok(None);
    };
    match server::connect(&direct, global.call_deadline).await {
        Ok(mut connection) => {
            server::examine(&mut connection, findings).await?;
            rights::examine(&mut connection, &global.prefix, findings).await?;
            Ok(Some(connection))
        }
        Err(failure) => {
            let told = format!("not looked at: {}", failure.message());
            findings.push(Finding::warn("server", told));
            Ok(None)
        }
    }
}
