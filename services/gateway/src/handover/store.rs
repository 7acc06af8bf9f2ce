//! Sockets in the keeping of the service manager: in a restart, where no two processes overlap, the next one
//! has them from there. Whoever comes in between waits in their queues.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Mutex;

use runtime::manager::Manager;
use rustix::fs::fstat;
use schemas::spec::Protocol;

use super::{Socket, lock};

/// What the service manager keeps for the next process.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) manager: Manager,
    /// What it has, and which socket that is.
    stored: Mutex<BTreeMap<Socket, u64>>,
}

impl Store {
    /// What a manager has already.
    pub(crate) fn of(manager: Manager, sockets: &BTreeMap<Socket, OwnedFd>) -> Self {
        let known = sockets.iter().filter_map(|(what, socket)| Some((*what, inode(socket)?)));
        Self { manager, stored: Mutex::new(known.collect()) }
    }

    /// Has a socket kept, in the place of the one that was kept for this.
    pub(crate) fn put(&self, what: Socket, socket: &OwnedFd) {
        let Some(now) = inode(socket) else { return };
        let before = lock(&self.stored).insert(what, now);
        if before == Some(now) {
            return;
        }
        let name = what.name();
        let removed = before.map_or(Ok(()), |_| self.manager.forget(&name));
        let kept = removed.and_then(|()| self.manager.keep(&name, socket.as_fd()));
        if let Err(error) = kept {
            tracing::warn!(socket = name, %error, "the service manager does not keep a socket");
        }
    }

    /// Has it kept no longer.
    pub(crate) fn take_out(&self, what: Socket) {
        if lock(&self.stored).remove(&what).is_some() {
            // Nobody there to hear it keeps nothing either.
            let _ = self.manager.forget(&what.name());
        }
    }

    /// Has those alone kept of which this is so.
    pub(crate) fn retain(&self, so: impl Fn(&Socket) -> bool) {
        let rest: Vec<Socket> =
            lock(&self.stored).keys().copied().filter(|what| !so(what)).collect();
        for what in rest {
            self.take_out(what);
        }
    }
}

fn inode(socket: &OwnedFd) -> Option<u64> {
    fstat(socket).ok().map(|about| about.st_ino)
}

impl Socket {
    /// What it is called where it is kept.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Published { protocol: Protocol::Tcp, port } => format!("tcp-{port}"),
            Self::Published { protocol: Protocol::Udp, port } => format!("udp-{port}"),
            Self::Web { tls: false, port } => format!("http-{port}"),
            Self::Web { tls: true, port } => format!("https-{port}"),
            Self::Sign => "sign".to_owned(),
            Self::Streams => "streams".to_owned(),
            Self::NamesTcp => "names-tcp".to_owned(),
            Self::NamesUdp => "names-udp".to_owned(),
            Self::Datagrams { number, port } => format!("datagrams-{number}-{port}"),
            Self::Page => "page".to_owned(),
        }
    }

    /// What is called so. None: it is not one of ours.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let published =
            |protocol, port: &str| Some(Self::Published { protocol, port: port.parse().ok()? });
        match name.split('-').collect::<Vec<_>>().as_slice() {
            ["names", "tcp"] => Some(Self::NamesTcp),
            ["names", "udp"] => Some(Self::NamesUdp),
            ["sign"] => Some(Self::Sign),
            ["streams"] => Some(Self::Streams),
            ["page"] => Some(Self::Page),
            ["tcp", port] => published(Protocol::Tcp, port),
            ["udp", port] => published(Protocol::Udp, port),
            ["http", port] => Some(Self::Web { tls: false, port: port.parse().ok()? }),
            ["https", port] => Some(Self::Web { tls: true, port: port.parse().ok()? }),
            ["datagrams", number, port] => {
                Some(Self::Datagrams { number: number.parse().ok()?, port: port.parse().ok()? })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_socket_is_found_again_by_its_name_and_others_are_not() {
        for what in [
            Socket::Published { protocol: Protocol::Tcp, port: 80 },
            Socket::Published { protocol: Protocol::Udp, port: 53 },
            Socket::Web { tls: false, port: 80 },
            Socket::Web { tls: true, port: 443 },
            Socket::Sign,
            Socket::Streams,
            Socket::NamesTcp,
            Socket::NamesUdp,
            Socket::Datagrams { number: 7, port: 53 },
            Socket::Page,
        ] {
            let name = what.name();
            assert_eq!(Socket::named(&name), Some(what), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{name}");
        }
        for other in ["", "tcp", "tcp-", "tcp-70000", "gateway.socket", "stored", "datagrams-1"] {
            assert_eq!(Socket::named(other), None, "{other}");
        }
    }
}
