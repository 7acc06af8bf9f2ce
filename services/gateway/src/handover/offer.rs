//! The running process: it gives its sockets to whoever may have them, and lets go when that one serves.

use std::convert::Infallible;
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

/// How long to wait when it went wrong with one, before the next one is listened to.
const BREATH: Duration = Duration::from_millis(50);

/// How long the report may take that another one serves as well.
const TOLD: Duration = Duration::from_millis(500);

/// How long the next one may take to put its own place where ours was.
const PLACED: Duration = Duration::from_secs(1);

/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// How long a third one may take to say that it is there.
const THIRD: Duration = Duration::from_millis(500);

/// How long the next one may take until it serves.
pub(crate) const SERVING: Duration = Duration::from_secs(30);

/// What is offered, and where.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) handover: Handover,
    pub(crate) path: PathBuf,
    pub(crate) listen: IpAddr,
    pub(crate) range: Option<Range>,
    /// How long the next one may take until it serves.
    pub(crate) within: Duration,
}

impl Offer {
    /// Offers the sockets until everything has ended, or another process has them. `ends`: this one was asked
    /// to end, and whoever was given sockets is the one that serves.
    ///
    /// # Errors
    ///
    /// None: what does not work is told of, and tried again.
    pub(crate) async fn run(self, ends: Shutdown, shutdown: Shutdown) -> Result<(), Failure> {
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
                    let process = process(&next);
                    // Also while we end: what the next one has not got yet, nobody would listen on.
                    tokio::select! {
                        given = self.give(&next, &ends) => given.map(|()| next),
                        never = place.turn_away(process) => match never {},
                    }
                }
                Err(error) => Err(error),
            };
            match given {
                Ok(next) => {
                    tracing::info!("another gateway has taken over: finishing what is open");
                    // One that ended meanwhile is nothing that we could mend.
                    let _ = send(&next, &Say::Shut, None).await;
                    // It puts its own place there now. Until then nobody is to think that there is none.
                    tokio::select! {
                        () = shutdown.requested() => {}
                        () = place.is_anothers() => {}
                        never = place.turn_away(process(&next)) => match never {},
                    }
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(%error, "a gateway that wanted to take over did not: serving on");
                    self.handover.0.beside.send_replace(false);
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }

    /// Gives the sockets to the next one, and lets go when that serves, or when we end.
    async fn give(&self, next: &UnixStream, ends: &Shutdown) -> io::Result<()> {
        let own = rustix::process::geteuid().as_raw();
        let who = next.peer_cred()?;
        if who.uid() != own && who.uid() != 0 {
            return Err(io::Error::other(format!("user {} may not have them", who.uid())));
        }
        let (ask, _) = tokio::time::timeout(PATIENCE, receive(next)).await??;
        let sockets = match self.wanted(&ask) {
            Ok(sockets) => sockets,
            Err(why) => {
                send(next, &Say::Refused { why: why.clone() }, None).await?;
                return Err(io::Error::other(why));
            }
        };
        tracing::info!(process = who.pid(), sockets = sockets.len(), "handing over");
        // What the controller hears of the next one must not replace what it hears of us.
        self.handover.0.beside.send_replace(true);
        let mut told = self.handover.0.told.subscribe();
        // Without a server nobody hears of either, and who ends says nothing more.
        tokio::select! {
            () = ends.requested() => {}
            _ = tokio::time::timeout(TOLD, told.wait_for(|beside| *beside)) => {}
        }
        let giving = async {
            for (what, socket) in &sockets {
                send(next, &Say::Socket(*what), Some(socket)).await?;
            }
            send(next, &Say::All { process: std::process::id() }, None).await
        };
        tokio::time::timeout(PATIENCE, giving).await??;
        drop(sockets);
        // It waits for a table to serve by. If it ends, we see it.
        let serving = async {
            while !matches!(receive(next).await?.0, Ask::Serving) {}
            io::Result::Ok(())
        };
        tokio::select! {
            // Asked to end: what is open ends as soon as without a next one, but nothing new is refused.
            () = ends.requested() => {}
            served = tokio::time::timeout(self.within, serving) => match served {
                Ok(served) => {
                    served?;
                    self.handover.0.over.stop();
                }
                Err(_) => {
                    let why = format!("it did not serve within {} s", self.within.as_secs());
                    send(next, &Say::Refused { why: why.clone() }, None).await?;
                    return Err(io::Error::other(why));
                }
            },
        }
        self.handover.all_shut().await;
        Ok(())
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

/// The process at the other end.
fn process(next: &UnixStream) -> u32 {
    let process = next.peer_cred().ok().and_then(|who| who.pid());
    process.and_then(|process| u32::try_from(process).ok()).unwrap_or_default()
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

    /// Tells everyone who comes that a process is about to take over.
    async fn turn_away(&self, process: u32) -> Infallible {
        loop {
            let Ok((third, _)) = self.listener.accept().await else {
                tokio::time::sleep(BREATH).await;
                continue;
            };
            // What it says is heard first: else it might not hear us.
            let told = async {
                receive::<Ask>(&third).await?;
                send(&third, &Say::Busy { process }, None).await
            };
            let _ = tokio::time::timeout(THIRD, told).await;
        }
    }

    /// Waits until another one has it, if one takes it soon.
    async fn is_anothers(&self) {
        let taken = async {
            while self.is_ours() {
                tokio::time::sleep(LOOK).await;
            }
            // Who came to us before that is told as well.
            tokio::time::sleep(BREATH).await;
        };
        let _ = tokio::time::timeout(PLACED, taken).await;
    }

    fn is_ours(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|about| about.ino() == self.inode)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_ours() {
            // One that stays is one where nobody answers.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
