//! The health page of a process that takes over: at a fixed address it goes from one to the next like a port.

use std::net::SocketAddr;
use std::time::Duration;

use runtime::{Admin, Failure, Shutdown, admin};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{Kept, Socket, Turn};
use crate::tcp;

/// How long an address may be another process's: one that is about to end.
const ADDRESS: Duration = Duration::from_secs(5);

/// How long to wait before it is tried again.
const AGAIN: Duration = Duration::from_millis(100);

/// A page that is listened for, and not shown yet.
#[derive(Debug)]
pub struct Page {
    listener: TcpListener,
    /// Where it is to be handed on, and when.
    kept: Option<(Kept, Shutdown)>,
    /// Whether the one before us still shows it.
    shared: watch::Receiver<bool>,
}

impl Turn {
    /// The page at an address: that of the gateway before us, or a new one.
    ///
    /// # Errors
    ///
    /// When the address is not loopback, or another process has it and keeps it.
    pub async fn page(&self, address: SocketAddr) -> Result<Page, Failure> {
        let handover = &self.handover;
        let mut shared = watch::channel(false).1;
        let before = handover.taken(Socket::Page).and_then(|page| tcp::go_on(page, address));
        let listener = match before.filter(|_| address.port() != 0) {
            Some(listener) => {
                shared = handover.shared();
                listener
            }
            None => bind(address).await?,
        };
        let kept = match address.port() {
            // Any port will do, so the next one takes one of its own.
            0 => None,
            _ => Some((handover.keep(Socket::Page, &listener)?, handover.over())),
        };
        Ok(Page { listener, kept, shared })
    }
}

impl Page {
    /// Shows it until asked to stop, or until another process does.
    ///
    /// # Errors
    ///
    /// When nothing can be listened on.
    pub async fn serve(mut self, admin: Admin, shutdown: Shutdown) -> Result<(), Failure> {
        let over = self.kept.as_ref().map(|(_, over)| over.clone());
        let over = async {
            match &over {
                Some(over) => over.requested().await,
                None => std::future::pending().await,
            }
        };
        let show = async {
            // The page of the one that serves is that one's. Never an error: whoever hands over says it.
            let _ = self.shared.wait_for(|shared| !*shared).await;
            admin.serve_on(self.listener, shutdown.clone()).await
        };
        let shown = tokio::select! {
            shown = show => shown,
            () = shutdown.requested() => Ok(()),
            () = over => Ok(()),
        };
        // Its socket stays kept for the next process, whether this ends before the gateway does or after it.
        if let Some((kept, _)) = self.kept.as_ref().filter(|_| shutdown.is_requested()) {
            kept.handover.close();
        }
        shown
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    let mut told = false;
    let bound = async {
        loop {
            match admin::bind(address).await {
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                    if !told {
                        tracing::info!(%address, "waiting for the address of the health page: another process has it");
                    }
                    told = true;
                    tokio::time::sleep(AGAIN).await;
                }
                bound => return bound,
            }
        }
    };
    match tokio::time::timeout(ADDRESS, bound).await {
        Ok(bound) => bound.map_err(|error| {
            format!("cannot listen on --admin-address {address}: {error}").into()
        }),
        Err(_) => Err(format!(
            "cannot listen on --admin-address {address}: another process has had it for {} s; end that one, or \
             give another address",
            ADDRESS.as_secs()
        )
        .into()),
    }
}
