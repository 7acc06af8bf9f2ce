//! The service manager that started this process, where one did. It is told how we are, and keeps sockets for the
//! process that it starts next.
//!
//! The protocol is systemd's: datagrams to the socket that `NOTIFY_SOCKET` names, with descriptors beside them;
//! what was kept is there when the next process begins, from descriptor 3 on, and `LISTEN_FDNAMES` says what is what.
//! Whoever else speaks it will do.

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr,
};

/// How long it may take to take a word.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a process has from its service manager when it begins.
#[derive(Debug, Default)]
pub struct Managed {
    /// Who is told, where anybody wants to be.
    pub manager: Option<Manager>,
    /// What the process before this one had kept, by its name.
    pub sockets: Vec<(String, OwnedFd)>,
}

impl Managed {
    /// What this process was given. Only once, and before anything else is opened: what is kept is known by its
    /// number.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "settings are read here")]
    pub fn begin() -> Self {
        // What does not read is nobody's word to us.
        let kept = sd_listen_fds::get().unwrap_or_default();
        let sockets = kept.into_iter().map(|(name, socket)| {
            let socket = socket.into_std();
            // Programs that we start have no use for it. One that is none fails again where it is used.
            let _ = fcntl_setfd(&socket, FdFlags::CLOEXEC);
            (name.unwrap_or_default(), socket)
        });
        let sockets = sockets.collect();
        let address = std::env::var("NOTIFY_SOCKET").ok();
        let manager = address.and_then(|address| Manager::at(OsStr::new(&address)).ok());
        Self { manager, sockets }
    }
}

/// Tells the service manager. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Manager(Arc<Line>);

#[derive(Debug)]
struct Line {
    socket: UnixDatagram,
    to: SocketAddrUnix,
}

impl Manager {
    /// One that listens at an address: a path, or `@` and a name.
    ///
    /// # Errors
    ///
    /// When that is no address.
    pub fn at(address: &OsStr) -> io::Result<Self> {
        let to = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
            path => SocketAddrUnix::new(path)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(Arc::new(Line { socket, to })))
    }

    /// Has a socket kept for the next process, under a name of letters, digits and dashes.
    ///
    /// # Errors
    ///
    /// When nobody takes it. One that has no room for it does not say so.
    pub fn keep(&self, name: &str, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.send(&format!("FDSTORE=1\nFDNAME={name}"), Some(socket))
    }

    /// Has it keep what has a name no longer.
    ///
    /// # Errors
    ///
    /// When nobody hears of it.
    pub fn forget(&self, name: &str) -> io::Result<()> {
        self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None)
    }

    /// This process serves, or can do no more for that. `how` is shown.
    ///
    /// # Errors
    ///
    /// When nobody hears of it.
    pub fn ready(&self, how: &str) -> io::Result<()> {
        self.send(&format!("READY=1\nSTATUS={how}"), None)
    }

    /// This process ends.
    ///
    /// # Errors
    ///
    /// When nobody hears of it.
    pub fn stopping(&self) -> io::Result<()> {
        self.send("STOPPING=1\nSTATUS=finishing what is under way", None)
    }

    fn send(&self, text: &str, socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let fds: Vec<_> = socket.into_iter().collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&fds));
        }
        let text = [IoSlice::new(text.as_bytes())];
        let Line { socket, to } = &*self.0;
        sendmsg_addr(socket, to, &text, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;
    use std::net::TcpListener;
    use std::os::fd::AsFd as _;

    use rustix::fs::fstat;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    use super::*;

    /// The next word, and the socket beside it.
    fn heard(at: &UnixDatagram) -> (String, Option<OwnedFd>) {
        let mut text = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(&mut text)];
        let got = recvmsg(at, into, &mut control, RecvFlags::CMSG_CLOEXEC).expect("it came").bytes;
        let sockets = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let socket = sockets.last();
        (String::from_utf8(text[..got].to_vec()).expect("it is text"), socket)
    }

    #[test]
    fn a_socket_is_given_by_its_name_at_a_path_and_at_a_name() {
        let path = std::env::temp_dir().join(format!("muster-manager-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let named = format!("muster-manager-{}", std::process::id());
        let abstract_ = <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(&named);
        let by_name = UnixDatagram::bind_addr(&abstract_.expect("a name")).expect("it is free");
        let by_path = UnixDatagram::bind(&path).expect("it is free");
        let given = TcpListener::bind(("127.0.0.1", 0)).expect("there are ports");
        for (at, address) in [(by_path, path.clone().into()), (by_name, format!("@{named}").into())]
        {
            let address: std::ffi::OsString = address;
            let manager = Manager::at(&address).expect("it is an address");
            manager.keep("tcp-80", given.as_fd()).expect("it is taken");
            let (text, socket) = heard(&at);
            assert_eq!(text, "FDSTORE=1\nFDNAME=tcp-80");
            let inode = |fd: BorrowedFd<'_>| fstat(fd).expect("it is open").st_ino;
            assert_eq!(inode(socket.expect("it came").as_fd()), inode(given.as_fd()));
            manager.forget("tcp-80").expect("it is heard");
            let (text, socket) = heard(&at);
            assert_eq!((text.as_str(), socket.is_none()), ("FDSTOREREMOVE=1\nFDNAME=tcp-80", true));
            manager.ready("serving").expect("it is heard");
            assert_eq!(heard(&at).0, "READY=1\nSTATUS=serving");
            drop(at);
            manager.stopping().expect_err("nobody listens");
        }
        std::fs::remove_file(path).expect("it is ours");
    }
}
