//! `zsem hold`: a permit for as long as standard input is open.

use std::io;
use std::thread;

use serde::Serialize;
use tokio::sync::oneshot;

use crate::args::{Global, PermitArgs};
use crate::failure::Failure;
use crate::signals::Signals;
use crate::status::Status;
use crate::waiting::{Granted, Waited, leave, wait};

#[derive(Debug, Serialize)]
struct Held {
    id: String,
    token: u64,
    units: u32,
}

pub(crate) async fn hold(global: &Global, args: &PermitArgs) -> Result<Status, Failure> {
    global.may_change()?;
    let mut signals = Signals::catch()?;
    let granted = match wait(global, args, &mut signals).await? {
        Waited::Granted(granted) => granted,
        Waited::Signal(received) => return Ok(Status::of_signal(received.signal.as_raw())),
    };
    let Granted { client, permit, .. } = *granted;
    let (id, token, units) = (permit.id().to_string(), permit.fencing_token(), permit.units());
    let held = Held { id, token, units };
    let holding = async {
        global.tell(&held, || {
            let Held { id, token, units } = &held;
            format!("id={id} token={token} units={units}\n")
        })?;
        tokio::select! {
            biased;
            reason = permit.lost() => {
                Err(Failure::new(Status::LOST, format!("the permit was lost: {reason}")))
            }
            _ = signals.next_end() => Ok(Status::OK),
            () = end_of_input()? => Ok(Status::OK),
        }
    };
    let end = holding.await;
    drop(permit);
    leave(&client).await;
    end
}

/// Resolves when standard input ends. A thread reads it, since a read cannot be given up.
fn end_of_input() -> Result<impl Future<Output = ()>, Failure> {
    let (ended, end) = oneshot::channel();
    let read = move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = ended.send(());
    };
    let reading = thread::Builder::new().name("input".to_owned()).spawn(read);
    reading.map_err(|error| Failure::of_system("standard input", &error))?;
    Ok(async move {
        let _ = end.await;
    })
}
