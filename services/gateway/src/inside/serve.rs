//! The life of the inside: the range is taken, kept as the map says, and given back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use runtime::inside::Sign;
use runtime::process::Stopper;
use runtime::tasks::Tasks;
use runtime::{Admin, Failure, Shutdown};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use super::datagrams::Datagrams;
use super::doors::Inside;
use super::host::Host;
use super::map::Map;
use super::resolver::Resolver;
use super::rules::{Rules, Sockets};
use super::server::Server;
use super::streams;
use crate::handover::{Kept, Socket};
use crate::{ports, tcp, udp};

/// How long to wait before what failed is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// How long changes are collected before the packet filter is told.
const COLLECT: Duration = Duration::from_millis(20);

/// How often it is looked whether the rules are still there.
const LOOK: Duration = Duration::from_secs(10);

impl Inside {
    /// Serves until asked to stop. What does not work is told as a trouble and tried again.
    ///
    /// # Errors
    ///
    /// When a task of it broke.
    pub async fn serve(
        self: Arc<Self>,
        name: String,
        resolvers: Vec<SocketAddr>,
        admin: Admin,
        shutdown: Shutdown,
    ) -> Result<(), Failure> {
        let check = format!("{name}, inside");
        let mut told = String::new();
        let handover = self.shared.handover.clone();
        let over = handover.over();
        let mut maps = self.maps();
        // The rules of the one before us hold as long as there is no map: an empty one would refuse all.
        let known = async {
            if handover.follows() {
                let _ = maps.wait_for(|map| !map.cluster.is_empty()).await;
            }
        };
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            () = known => {}
        }
        loop {
            let trouble = |why: &str| {
                let range = self.range;
                vec![format!("names inside are not served in {range}: {why}")]
            };
            let failed = match Serving::begin(&self, &resolvers).await {
                Ok(serving) => {
                    tracing::info!(range = %self.range, "names inside are served");
                    admin.readiness.troubles(&check, Vec::new());
                    self.settled.send_replace(true);
                    match serving.run(&self, &shutdown).await? {
                        None => return Ok(()),
                        Some(why) => why,
                    }
                }
                Err(why) => why,
            };
            if failed != told {
                tracing::warn!(range = %self.range, why = failed, "names inside are not served");
                told.clone_from(&failed);
            }
            admin.readiness.troubles(&check, trouble(&failed));
            self.settled.send_replace(true);
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                () = over.requested() => return Ok(()),
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }
}

/// An inside that is served.
struct Serving {
    sign: Sign,
    host: Host,
    sockets: Sockets,
    datagrams: Datagrams,
    maps: watch::Receiver<Arc<Map>>,
    tasks: Tasks,
    /// Its tasks stop with it.
    stopper: Stopper,
    /// They end when nobody listens any more.
    gone: Vec<oneshot::Receiver<()>>,
    kept: Vec<Kept>,
}

impl Serving {
    async fn begin(inside: &Arc<Inside>, resolvers: &[SocketAddr]) -> Result<Self, String> {
        let range = inside.range;
        let handover = &inside.shared.handover;
        let before = handover.taken(Socket::Sign).and_then(|sign| Sign::go_on(sign, range).ok());
        let sign = before.map_or_else(|| Sign::put_out(range), Ok).map_err(|_| {
            "another gateway on this machine serves it: give another range with --service-range, to \
             this gateway and its node's agent"
                .to_owned()
        })?;
        let server = range.name_server();
        let failed = |error: std::io::Error| format!("cannot listen on {server}: {error}");
        // From here on, so that it is nobody's when something fails, and can be put out again.
        let kept = handover.keep(Socket::Sign, &sign).map_err(failed)?;
        let host = Host::take(range).await?;
        let at = SocketAddr::from((server, 0));
        let listen = |what| {
            let before = handover.taken(what).and_then(|listener| tcp::go_on(listener, at));
            before.map_or_else(|| tcp::bind(at), Ok).map_err(failed)
        };
        let (streams, names_tcp) = (listen(Socket::Streams)?, listen(Socket::NamesTcp)?);
        let before = handover.taken(Socket::NamesUdp).and_then(|socket| udp::go_on(socket, at));
        let names_udp = match before {
            Some(socket) => socket,
            None => udp::bind(at).await.map_err(failed)?,
        };
        let kept = vec![
            kept,
            handover.keep(Socket::Streams, &streams).map_err(failed)?,
            handover.keep(Socket::NamesTcp, &names_tcp).map_err(failed)?,
            handover.keep(Socket::NamesUdp, &names_udp).map_err(failed)?,
        ];
        let of = |listener: &TcpListener| listener.local_addr().map(|at| at.port()).map_err(failed);
        let sockets = Sockets {
            streams: of(&streams)?,
            names_tcp: of(&names_tcp)?,
            names_udp: names_udp.local_addr().map_err(failed)?.port(),
        };
        let (stopper, stop) = Shutdown::new();
        let mut tasks = Tasks::default();
        let mut gone = Vec::new();
        let mut listening = || {
            let (listening, ended) = oneshot::channel();
            gone.push(ended);
            listening
        };
        let carried = streams::serve(streams, inside.clone(), stop.clone(), listening());
        tasks.spawn("streams inside", carried);
        let names =
            Server { inside: inside.clone(), resolver: Resolver::new(resolvers.to_vec(), server) };
        tasks.spawn("names by stream", names.clone().streams(names_tcp, stop.clone(), listening()));
        tasks.spawn("names by datagram", names.datagrams(names_udp, stop, listening()));
        let datagrams = Datagrams::default();
        let maps = inside.maps();
        let mut serving = Self { sign, host, sockets, datagrams, maps, tasks, stopper, gone, kept };
        if let Err(why) = serving.become_as(inside).await {
            // What is there may be that of the one before us, which serves.
            if !*inside.shared.handover.shared().borrow() {
                serving.host.leave().await;
            }
            return Err(why);
        }
        Ok(serving)
    }

    /// Makes sockets and rules as the map of now has them.
    async fn become_as(&mut self, inside: &Arc<Inside>) -> Result<(), String> {
        let map = self.maps.borrow_and_update().clone();
        let datagrams = self.datagrams.become_as(inside, &map).await?;
        let rules = Rules::of(inside.range, self.sockets, &map, &datagrams);
        self.host.become_as(&rules).await
    }

    /// Follows the map until asked to stop; or says what failed.
    async fn run(
        mut self,
        inside: &Arc<Inside>,
        shutdown: &Shutdown,
    ) -> Result<Option<String>, Failure> {
        let mut look = tokio::time::interval(LOOK);
        let handover = inside.shared.handover.clone();
        let (over, mut shared) = (handover.over(), handover.shared());
        loop {
            let cluster = self.maps.borrow().cluster.clone();
            let done = tokio::select! {
                () = shutdown.requested() => return self.finish(inside, shutdown).await,
                () = over.requested() => return self.finish(inside, shutdown).await,
                // The one before us went by rules of its own until now.
                Ok(()) = shared.changed() => self.host.anew().await,
                Some((_, ended)) = self.tasks.ended() => {
                    ended?;
                    Ok(())
                }
                ended = self.datagrams.ended() => {
                    ended?;
                    Ok(())
                }
                // There is always one who sends: the inside itself.
                _ = self.maps.changed() => {
                    tokio::time::sleep(COLLECT).await;
                    self.become_as(inside).await
                }
                () = self.sign.show(&cluster) => Ok(()),
                _ = look.tick() => self.host.look_after().await,
            };
            if let Err(why) = done {
                self.host.leave().await;
                return Ok(Some(why));
            }
        }
    }

    /// Takes nothing new, and lets what is open go on for a moment; where another process has taken over,
    /// for as long as it may, and leaves the machine to that one.
    async fn finish(
        mut self,
        inside: &Arc<Inside>,
        shutdown: &Shutdown,
    ) -> Result<Option<String>, Failure> {
        let shared = &inside.shared;
        let over = shared.handover.over().is_requested();
        // Who listens where these lead is asked for by the rules until the end: those of what is open.
        self.stopper.stop();
        self.datagrams.shut().await;
        for gone in std::mem::take(&mut self.gone) {
            // Nothing is ever said on it: it ends with the listener.
            let _ = gone.await;
        }
        drop(self.sign);
        drop(self.kept);
        let end = async {
            if over {
                tokio::select! {
                    () = shutdown.requested() => {}
                    () = tokio::time::sleep(Duration::from_millis(shared.drain_ms)) => return,
                }
            }
            ports::lingered(shared).await;
        };
        let ended = tokio::select! {
            ended = self.tasks.all() => ended,
            () = end => Ok(()),
        };
        let answered = tokio::time::timeout(AGAIN, self.datagrams.answered()).await;
        let ended = match answered {
            Ok(answered) => ended.and(answered),
            Err(_) => ended,
        };
        if over {
            return ended.map(|()| None);
        }
        // Another process may have taken the range meanwhile: then it is that one's.
        if let Ok(_sign) = Sign::put_out(inside.range) {
            self.host.leave().await;
        }
        ended.map(|()| None)
    }
}
