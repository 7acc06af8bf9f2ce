//! The next process: it asks the running one for its sockets, says when it serves, and hears when that ends.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use runtime::Failure;
use runtime::inside::Range;
use tokio::net::UnixStream;
use tokio::sync::watch;

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
    ///
    /// # Errors
    ///
    /// When another process is about to take over from it: whoever is third has nobody to take over from.
    pub(crate) async fn ask(
        &self,
        path: &Path,
        listen: IpAddr,
        range: Option<Range>,
    ) -> Result<Option<Before>, Failure> {
        let range = range.map(|range| range.to_string());
        let asking = asked(path, Ask::Take { version: VERSION, listen, range });
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(Ok((before, sockets))) => {
                let (process, count) = (before.process, sockets.len());
                tracing::info!(process, sockets = count, "taking over from the running gateway");
                *lock(&self.0.taken) = sockets;
                self.0.given_back.store(false, Relaxed);
                self.0.beside.send_replace(true);
                self.0.shared.send_replace(true);
                Ok(Some(before))
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ResourceBusy => {
                Err(error.to_string().into())
            }
            // Nobody was there, or was killed.
            Ok(Err(error))
                if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused]
                    .contains(&error.kind()) =>
            {
                if self.given_back() {
                    let sockets = lock(&self.0.taken).len();
                    tracing::info!(sockets, "going on with what the service manager kept");
                }
                Ok(None)
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the running gateway gives no sockets: listening anew");
                Ok(None)
            }
            Err(_) => {
                let waited_ms = u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(waited_ms, "the running gateway does not answer: listening anew");
                Ok(None)
            }
        }
    }

    /// Has the gateway before us let go once we are ready to serve, or are told that it ends. `alone` says when
    /// nobody serves but us. What nobody had a use for until we are ready is shut, whoever kept it.
    ///
    /// # Errors
    ///
    /// When it waits no longer: it serves on, and we must not.
    pub(crate) async fn take_turn(
        &self,
        before: Option<Before>,
        ready: impl Future<Output = ()>,
        alone: &watch::Sender<bool>,
    ) -> Result<(), Failure> {
        let mut ready = std::pin::pin!(ready);
        let mut is_ready = false;
        if let Some(Before { stream, process }) = before {
            let mut said = std::pin::pin!(said(&stream));
            tokio::select! {
                said = &mut said => gone(said, process)?,
                () = &mut ready => {
                    is_ready = true;
                    self.shut_rest();
                    // If it has gone, that is what we hear next.
                    let _ = send(&stream, &Ask::Serving, None).await;
                    match tokio::time::timeout(PATIENCE, said).await {
                        Ok(said) => gone(said, process)?,
                        Err(_) => tracing::warn!(
                            process,
                            "the gateway before us does not let go, and may still take connections: end it"
                        ),
                    }
                }
            }
            self.0.beside.send_replace(false);
            self.0.shared.send_replace(false);
        }
        alone.send_replace(true);
        if self.given_back() && !is_ready {
            ready.await;
            self.shut_rest();
        }
        Ok(())
    }
}

/// What the running one says in the end: why it serves on, or that it listens on nothing any more.
async fn said(stream: &UnixStream) -> io::Result<Result<(), String>> {
    loop {
        match receive(stream).await?.0 {
            Say::Shut => return Ok(Ok(())),
            Say::Refused { why } => return Ok(Err(why)),
            Say::Busy { .. } | Say::Socket(_) | Say::All { .. } => {}
        }
    }
}

fn gone(said: io::Result<Result<(), String>>, process: u32) -> Result<(), Failure> {
    match said {
        Ok(Ok(())) => {
            tracing::info!(process, "took over; the gateway before us finishes what is open")
        }
        Err(error) => tracing::info!(process, %error, "took over; the gateway before us has gone"),
        Ok(Err(why)) => {
            return Err(format!(
                "the running gateway (process {process}) serves on and waits for this one no longer: {why}"
            )
            .into());
        }
    }
    Ok(())
}

async fn asked(path: &Path, ask: Ask) -> io::Result<(Before, BTreeMap<Socket, OwnedFd>)> {
    let stream = UnixStream::connect(path).await?;
    send(&stream, &ask, None).await?;
    let mut sockets = BTreeMap::new();
    loop {
        match receive(&stream).await? {
            (Say::Socket(what), Some(socket)) => {
                sockets.insert(what, socket);
            }
            (Say::Socket(what), None) => {
                return Err(io::Error::other(format!("{what:?} came without a socket")));
            }
            (Say::Refused { why }, _) => return Err(io::Error::other(why)),
            (Say::Busy { process }, _) => {
                let why = format!(
                    "another gateway (process {process}) is about to take over from the one that runs, and only one \
                     can: start this one when that one serves, or end that one"
                );
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
            }
            (Say::All { process }, _) => return Ok((Before { stream, process }, sockets)),
            (Say::Shut, _) => return Err(io::Error::other("it ends")),
        }
    }
}
