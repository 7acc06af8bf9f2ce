//! The running process: it gives its sockets to whoever may have them, and lets go when that one serves.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime::inside::Range;
use runtime::{Failure, Shutdown};
use tokio::net::{UnixListener, UnixStream};

use super::wire::{Ask, PATIENCE, Say, VERSION, receive, send};
use super::{Handover, Socket, lock};

/// How long to wait before the place is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// How long the report may take that another one serves as well.
const TOLD: Duration = Duration::from_millis(500);

/// What is offered, and where.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) handover: Handover,
    pub(crate) path: PathBuf,
    pub(crate) listen: IpAddr,
    pub(crate) range: Option<Range>,
}

impl Offer {
    /// Offers the sockets until asked to stop, or until another process has them: then until it is asked
    /// to stop, so that the other one sees our end.
    ///
    /// # Errors
    ///
    /// None: what does not work is told of, and tried again.
    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<(), Failure> {
        let mut told = String::new();
        let place = loop {
            match Place::take(&self.path) {
                Ok(place) => break place,
                Err(error) => {
                    let error = format!("{}: {error}", self.path.display());
                    if error != told {
                        tracing::warn!(error, "no other gateway can take over from this one");
                    }
                    told = error;
                }
            }
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                () = tokio::time::sleep(AGAIN) => {}
            }
        };
        loop {
            let next = tokio::select! {
                () = shutdown.requested() => return Ok(()),
                accepted = place.listener.accept() => accepted,
            };
            let given = match next {
                Ok((next, _)) => {
                    tokio::select! {
                        () = shutdown.requested() => return Ok(()),
                        given = self.give(next) => given,
                    }
                }
                Err(error) => Err(error),
            };
            match given {
                Ok(_next) => {
                    // It has put its own in this place.
                    drop(place);
                    shutdown.requested().await;
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(%error, "a gateway that wanted to take over did not: serving on");
                    self.handover.0.beside.send_replace(false);
                }
            }
        }
    }

    /// Gives the sockets to the next one, and lets go when that serves.
    async fn give(&self, mut next: UnixStream) -> io::Result<UnixStream> {
        let own = rustix::process::geteuid().as_raw();
        let who = next.peer_cred()?;
        if who.uid() != own && who.uid() != 0 {
            return Err(io::Error::other(format!("user {} may not have them", who.uid())));
        }
        let (ask, _) = tokio::time::timeout(PATIENCE, receive(&mut next)).await??;
        let sockets = match self.wanted(&ask) {
            Ok(sockets) => sockets,
            Err(why) => {
                send(&mut next, &Say::Refused { why: why.clone() }, None).await?;
                return Err(io::Error::other(why));
            }
        };
        tracing::info!(process = who.pid(), sockets = sockets.len(), "handing over");
        // What the controller hears of the next one must not replace what it hears of us.
        self.handover.0.beside.send_replace(true);
        let mut told = self.handover.0.told.subscribe();
        // Without a server nobody hears of either.
        let _ = tokio::time::timeout(TOLD, told.wait_for(|beside| *beside)).await;
        let giving = async {
            for (what, socket) in &sockets {
                send(&mut next, &Say::Socket(*what), Some(socket)).await?;
            }
            send(&mut next, &Say::All { process: std::process::id() }, None).await
        };
        tokio::time::timeout(PATIENCE, giving).await??;
        drop(sockets);
        // It waits for a table to serve by, for as long as that takes; if it ends, we see it.
        while !matches!(receive(&mut next).await?.0, Ask::Serving) {}
        self.handover.0.over.stop();
        self.handover.all_shut().await;
        tracing::info!("another gateway has taken over: finishing what is open");
        // One that ended meanwhile is nothing that we could mend.
        let _ = send(&mut next, &Say::Shut, None).await;
        Ok(next)
    }

    /// Copies of the sockets that the next one has a use for.
    fn wanted(&self, ask: &Ask) -> Result<Vec<(Socket, OwnedFd)>, String> {
        let Ask::Take { version, listen, range } = ask else {
            return Err("it did not ask for sockets".to_owned());
        };
        if *version != VERSION {
            return Err(format!("it speaks version {version} of this, and we speak {VERSION}"));
        }
        if *listen != self.listen {
            return Err(format!("it listens on {listen}, and we listen on {}", self.listen));
        }
        let inside = self.range.map(|range| range.to_string()) == *range;
        let kept = lock(&self.handover.0.kept);
        let wanted = kept.iter().filter(|(socket, _)| inside || !socket.is_inside());
        let copies = wanted.map(|(socket, (_, fd))| Ok((*socket, fd.try_clone()?)));
        copies.collect::<io::Result<_>>().map_err(|error| error.to_string())
    }
}

/// The place in the folder at which a gateway answers.
struct Place {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Place {
    /// Takes it, whoever had it: the last one that serves answers there.
    fn take(path: &Path) -> io::Result<Self> {
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        std::fs::create_dir_all(folder)?;
        let beside = path.with_extension("sock-new");
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&beside)?;
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
        let inode = std::fs::metadata(&beside)?.ino();
        std::fs::rename(&beside, path)?;
        Ok(Self { listener, path: path.to_owned(), inode })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let is_ours = |about: std::fs::Metadata| about.ino() == self.inode;
        if std::fs::metadata(&self.path).is_ok_and(is_ours) {
            // One that stays is one where nobody answers.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
