//! The life of the inside: the range is taken, kept as the map says, and given back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use runtime::inside::Sign;
use runtime::tasks::Tasks;
use runtime::{Admin, Failure, Shutdown};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

use super::datagrams::Datagrams;
use super::doors::Inside;
use super::host::Host;
use super::map::Map;
use super::resolver::Resolver;
use super::rules::{Rules, Sockets};
use super::server::Server;
use super::streams;
use crate::tcp;

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
        loop {
            let trouble = |why: &str| {
                let range = self.range;
                vec![format!("names inside are not served in {range}: {why}")]
            };
            let failed = match Serving::begin(&self, &resolvers).await {
                Ok(serving) => {
                    tracing::info!(range = %self.range, "names inside are served");
                    admin.readiness.troubles(&check, Vec::new());
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
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
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
    _stopper: runtime::process::Stopper,
}

impl Serving {
    async fn begin(inside: &Arc<Inside>, resolvers: &[SocketAddr]) -> Result<Self, String> {
        let range = inside.range;
        let sign = Sign::put_out(range).map_err(|_| {
            "another gateway on this machine serves it: give another range with --service-range, to \
             this gateway and its node's agent"
                .to_owned()
        })?;
        let host = Host::take(range).await?;
        let server = range.name_server();
        let failed = |error: std::io::Error| format!("cannot listen on {server}: {error}");
        let listen = || tcp::bind((server, 0).into()).map_err(failed);
        let (streams, names_tcp) = (listen()?, listen()?);
        let names_udp = UdpSocket::bind((server, 0)).await.map_err(failed)?;
        let of = |listener: &TcpListener| listener.local_addr().map(|at| at.port()).map_err(failed);
        let sockets = Sockets {
            streams: of(&streams)?,
            names_tcp: of(&names_tcp)?,
            names_udp: names_udp.local_addr().map_err(failed)?.port(),
        };
        let (stopper, stop) = Shutdown::new();
        let mut tasks = Tasks::default();
        tasks.spawn("streams inside", streams::serve(streams, inside.clone(), stop.clone()));
        let names =
            Server { inside: inside.clone(), resolver: Resolver::new(resolvers.to_vec(), server) };
        tasks.spawn("names by stream", names.clone().streams(names_tcp, stop.clone()));
        tasks.spawn("names by datagram", names.datagrams(names_udp, stop));
        let datagrams = Datagrams::default();
        let maps = inside.maps();
        let mut serving = Self { sign, host, sockets, datagrams, maps, tasks, _stopper: stopper };
        if let Err(why) = serving.become_as(inside).await {
            serving.host.leave().await;
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
        loop {
            let cluster = self.maps.borrow().cluster.clone();
            let done = tokio::select! {
                () = shutdown.requested() => {
                    self.host.leave().await;
                    return Ok(None);
                }
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
}
