//! The next process: it asks the running one for its sockets, and says when it serves.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use runtime::inside::Range;
use tokio::net::UnixStream;

use super::wire::{Ask, PATIENCE, Say, VERSION, receive, send};
use super::{Handover, Socket, lock};

/// The running one, of which we have the sockets.
#[derive(Debug)]
pub(crate) struct Before {
    stream: UnixStream,
    process: u32,
}

impl Handover {
    /// Asks the gateway that runs in a folder for its sockets. None: there is none that gives any, and
    /// they have to be taken from the machine.
    pub(crate) async fn ask(
        &self,
        path: &Path,
        listen: IpAddr,
        range: Option<Range>,
    ) -> Option<Before> {
        let range = range.map(|range| range.to_string());
        let asking = asked(path, Ask::Take { version: VERSION, listen, range });
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(Ok((before, sockets))) => {
                let (process, count) = (before.process, sockets.len());
                tracing::info!(process, sockets = count, "taking over from the running gateway");
                *lock(&self.0.taken) = sockets;
                self.0.beside.send_replace(true);
                self.0.shared.send_replace(true);
                Some(before)
            }
            // Nobody was there, or was killed.
            Ok(Err(error))
                if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused]
                    .contains(&error.kind()) =>
            {
                None
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the running gateway gives no sockets: listening anew");
                None
            }
            Err(_) => {
                let waited_ms = u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(waited_ms, "the running gateway does not answer: listening anew");
                None
            }
        }
    }

    /// Says that we serve, and waits until the running one listens on nothing any more. What it had and
    /// nobody here has a use for is shut.
    pub(crate) async fn let_go(&self, before: &mut Before) {
        self.shut_rest();
        let shut = async {
            send(&mut before.stream, &Ask::Serving, None).await?;
            while !matches!(receive(&mut before.stream).await?.0, Say::Shut) {}
            io::Result::Ok(())
        };
        match tokio::time::timeout(PATIENCE, shut).await {
            Ok(Ok(())) => tracing::info!("took over; the gateway before us finishes what is open"),
            Ok(Err(error)) => tracing::info!(%error, "took over; the gateway before us has gone"),
            Err(_) => tracing::warn!(
                process = before.process,
                "the gateway before us does not let go, and may still take connections: end it"
            ),
        }
        self.0.beside.send_replace(false);
        self.0.shared.send_replace(false);
    }
}

async fn asked(path: &Path, ask: Ask) -> io::Result<(Before, BTreeMap<Socket, OwnedFd>)> {
    let mut stream = UnixStream::connect(path).await?;
    send(&mut stream, &ask, None).await?;
    let mut sockets = BTreeMap::new();
    loop {
        match receive(&mut stream).await? {
            (Say::Socket(what), Some(socket)) => {
                sockets.insert(what, socket);
            }
            (Say::Socket(what), None) => {
                return Err(io::Error::other(format!("{what:?} came without a socket")));
            }
            (Say::Refused { why }, _) => return Err(io::Error::other(why)),
            (Say::All { process }, _) => return Ok((Before { stream, process }, sockets)),
            (Say::Shut, _) => return Err(io::Error::other("it ends")),
        }
    }
}
