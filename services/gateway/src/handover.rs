//! A gateway's sockets outlive it: the next process asks the running one for them.
//!
//! The running one keeps each socket that it listens on in a list ([`Handover::keep`]) and answers at a
//! socket in its folder ([`offer`]). The next one gets the very same sockets ([`take`]), so that there is
//! no moment in which nobody listens; it serves, says so, and only then the running one takes nothing new.
//! That one lets what is open finish, and ends. Nobody else's word is needed for any of it: should either of
//! them end or hang before that, the other one serves.
//!
//! Where a service manager ends one process before it starts the next, it keeps the sockets in between ([`store`]).
//!
//! Not here: what is done with a socket, and what is reported meanwhile.

pub(crate) mod offer;
mod page;
pub(crate) mod store;
pub(crate) mod take;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runtime::manager::{Managed, Manager};
use runtime::process::Stopper;
use runtime::{Failure, Shutdown};
use rustix::net::shutdown;
use schemas::id::NodeName;
use schemas::spec::Protocol;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::store::Store;
use crate::config::Config;

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub(crate) enum Socket {
    /// A published port.
    Published { protocol: Protocol, port: u16 },
    /// A port that serves HTTP or HTTPS for all workloads.
    Web { tls: bool, port: u16 },
    /// The sign that names are served in a range.
    Sign,
    /// All TCP inside.
    Streams,
    /// Questions by stream.
    NamesTcp,
    /// Questions by datagram.
    NamesUdp,
    /// A UDP port of the workload that has a number.
    Datagrams { number: u16, port: u16 },
    /// The health page, where its port is a fixed one.
    Page,
}

impl Socket {
    /// Whether it is of the inside.
    fn is_inside(self) -> bool {
        !matches!(self, Self::Published { .. } | Self::Web { .. } | Self::Page)
    }
}

/// What the parts of a gateway share to hand its sockets on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handover(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// What is listened on, to be given to the next one.
    kept: Mutex<BTreeMap<Socket, (u64, OwnedFd)>>,
    kept_changed: watch::Sender<()>,
    serial: AtomicU64,
    /// What the one before us listened on, until somebody here has a use for it.
    taken: Mutex<BTreeMap<Socket, OwnedFd>>,
    /// Whether another instance is there as well.
    beside: watch::Sender<bool>,
    /// What of that was reported last.
    told: watch::Sender<bool>,
    /// Whether the one before us may still listen, on what is ours as well.
    shared: watch::Sender<bool>,
    over: Stopper,
    is_over: Shutdown,
    /// Has connections end, each with the request that comes next.
    closing: Stopper,
    is_closing: Shutdown,
    /// What the service manager keeps for the process after us.
    store: Option<Store>,
    /// Whether it had kept anything for us.
    given_back: AtomicBool,
}

impl Default for Handover {
    fn default() -> Self {
        Self::of(Managed::default())
    }
}

/// A socket can be handed on until this is dropped.
#[derive(Debug)]
pub(crate) struct Kept {
    handover: Handover,
    socket: Socket,
    serial: u64,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut kept = lock(&self.handover.0.kept);
        let ours = kept.get(&self.socket).is_some_and(|(serial, _)| *serial == self.serial);
        let gone = if ours { kept.remove(&self.socket) } else { None };
        drop(kept);
        if let Some((_, socket)) = gone {
            self.handover.let_go(self.socket, &socket);
        }
        self.handover.0.kept_changed.send_replace(());
    }
}

impl Handover {
    /// That of a process that has this from its service manager.
    fn of(managed: Managed) -> Self {
        let Managed { manager, sockets } = managed;
        let mut taken = BTreeMap::new();
        for (name, socket) in sockets {
            match Socket::named(&name) {
                Some(what) => drop(taken.insert(what, socket)),
                None => tracing::warn!(name, "the service manager kept what is none of ours"),
            }
        }
        let store = manager.map(|manager| Store::of(manager, &taken));
        let given_back = !taken.is_empty();
        let ((over, is_over), (closing, is_closing)) = (Shutdown::new(), Shutdown::new());
        Self(Arc::new(Shared {
            kept: Mutex::default(),
            kept_changed: watch::Sender::default(),
            serial: 0.into(),
            taken: Mutex::new(taken),
            beside: watch::Sender::default(),
            told: watch::Sender::default(),
            shared: watch::Sender::default(),
            over,
            is_over,
            closing,
            is_closing,
            store,
            given_back: given_back.into(),
        }))
    }

    /// The service manager, where there is one.
    pub(crate) fn manager(&self) -> Option<&Manager> {
        self.0.store.as_ref().map(|store| &store.manager)
    }

    /// Whether what is listened on is kept for a process that is started after this one has ended.
    pub(crate) fn is_stored(&self) -> bool {
        self.0.store.is_some() && !self.0.is_over.is_requested()
    }

    /// Whether there was one before us, of which sockets, and rules that lead to them, are left.
    pub(crate) fn follows(&self) -> bool {
        self.given_back() || *self.0.shared.borrow()
    }

    /// Whether the one before us has ended a moment ago, and left its sockets to the service manager.
    pub(crate) fn given_back(&self) -> bool {
        self.0.given_back.load(Relaxed)
    }

    /// We are about to end: what is open is to end as well, and what is kept stays kept.
    pub(crate) fn close(&self) {
        self.0.closing.stop();
    }

    /// Whether that is so.
    pub(crate) fn is_closing(&self) -> bool {
        self.0.is_closing.is_requested()
    }

    /// When a connection is to end: with its port, or with all of them.
    pub(crate) fn ending(&self, stop: &Shutdown) -> Shutdown {
        stop.or(&self.0.is_closing)
    }

    /// Has a socket kept no longer that nobody here listens on any more: unless we end, and the next one will.
    fn let_go(&self, what: Socket, socket: &OwnedFd) {
        let Some(store) = self.0.store.as_ref().filter(|_| !self.is_closing()) else {
            return;
        };
        store.take_out(what);
        // The manager closes its copy when it comes to that; nobody is to wait in its queue until then. Where
        // another process listens on it, it is that one's.
        if !self.0.is_over.is_requested() && !*self.0.beside.borrow() {
            let _ = shutdown(socket, rustix::net::Shutdown::Both);
        }
    }

    /// Has a socket handed on when another process asks for it. It is shut when this is dropped as well
    /// as the socket.
    pub(crate) fn keep(&self, socket: Socket, listener: &impl AsFd) -> std::io::Result<Kept> {
        let copy = listener.as_fd().try_clone_to_owned()?;
        if let Some(store) = &self.0.store {
            store.put(socket, &copy);
        }
        let serial = self.0.serial.fetch_add(1, Relaxed);
        lock(&self.0.kept).insert(socket, (serial, copy));
        Ok(Kept { handover: self.clone(), socket, serial })
    }

    /// The socket that the one before us had for this.
    pub(crate) fn taken(&self, socket: Socket) -> Option<OwnedFd> {
        lock(&self.0.taken).remove(&socket)
    }

    /// Shuts what the one before us had and nobody here has a use for.
    fn shut_rest(&self) {
        lock(&self.0.taken).clear();
        if let Some(store) = &self.0.store {
            store.retain(|what| lock(&self.0.kept).contains_key(what));
        }
    }

    /// Whether another process has taken over: what is open may finish, and nothing new is taken.
    #[must_use]
    pub fn over(&self) -> Shutdown {
        self.0.is_over.clone()
    }

    /// Whether another instance is there as well.
    pub(crate) fn beside(&self) -> watch::Receiver<bool> {
        self.0.beside.subscribe()
    }

    /// Whether the one before us may still listen, on what is ours as well.
    pub(crate) fn shared(&self) -> watch::Receiver<bool> {
        self.0.shared.subscribe()
    }

    /// It was reported whether another instance is there as well.
    pub(crate) fn told(&self, beside: bool) {
        self.0.told.send_replace(beside);
    }

    /// Waits until nothing is listened on any more.
    async fn all_shut(&self) {
        let mut changed = self.0.kept_changed.subscribe();
        while !lock(&self.0.kept).is_empty() {
            // Never an error: the sender is ours.
            let _ = changed.changed().await;
        }
    }
}

/// A process that is about to serve: nobody did before it, or one that gave it its sockets.
#[derive(Debug)]
pub struct Turn {
    pub(crate) handover: Handover,
    pub(crate) before: Option<take::Before>,
}

impl Turn {
    /// Asks the gateway that runs with these settings, if one does, for its sockets. If none does, they are those
    /// that the service manager kept, if it did.
    ///
    /// # Errors
    ///
    /// When yet another one is about to take over.
    pub async fn ask(config: &Config, managed: Managed) -> Result<Self, Failure> {
        let handover = Handover::of(managed);
        let path = path(&config.settings.state_dir, &config.node);
        let before = handover.ask(&path, config.listen, config.range()).await?;
        Ok(Self { handover, before })
    }
}

/// Where a gateway answers the next one: in its folder.
pub(crate) fn path(folder: &Path, node: &NodeName) -> PathBuf {
    folder.join(format!("gateway-{node}.sock"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
