//! The name server: questions in, answers out, by datagram and by stream.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use runtime::tasks::Tasks;
use runtime::{Failure, Shutdown};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::oneshot;

use super::doors::Inside;
use super::names::{self, By, Said};
use super::resolver::{Resolver, read_message, write_message};

/// How many questions may be under way, and how many streams.
const AT_ONCE: usize = 2_000;

/// How long a stream may be silent.
const IDLE: Duration = Duration::from_secs(10);

/// The longest question by datagram, in bytes.
const QUESTION_MAX: usize = 4_096;

/// How long to wait when nothing can be taken.
const BREATH: Duration = Duration::from_millis(50);

/// What answers.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) inside: Arc<Inside>,
    pub(crate) resolver: Resolver,
}

impl Server {
    /// Answers by datagram until asked to stop, then what was asked. `listening` goes with the last word.
    pub(crate) async fn datagrams(
        self,
        socket: UdpSocket,
        stop: Shutdown,
        listening: oneshot::Sender<()>,
    ) -> Result<(), Failure> {
        let socket = Arc::new(socket);
        let mut buffer = vec![0; QUESTION_MAX];
        let mut under_way = Tasks::default();
        loop {
            tokio::select! {
                () = stop.requested() => break,
                Some((_, ended)) = under_way.ended() => ended?,
                received = socket.recv_from(&mut buffer), if under_way.len() < AT_ONCE => match received {
                    Ok((bytes, from)) => {
                        let (server, socket) = (self.clone(), socket.clone());
                        let question = buffer[..bytes].to_vec();
                        under_way.spawn("question", async move {
                            if let Some(answer) = server.answer(&question, from, By::Datagram).await {
                                // Whoever asked may have gone.
                                let _ = socket.send_to(&answer, from).await;
                            }
                            Ok(())
                        });
                    }
                    Err(_) => tokio::time::sleep(BREATH).await,
                },
            }
        }
        drop(socket);
        drop(listening);
        under_way.all().await
    }

    /// The same by stream.
    pub(crate) async fn streams(
        self,
        listener: TcpListener,
        stop: Shutdown,
        listening: oneshot::Sender<()>,
    ) -> Result<(), Failure> {
        let mut under_way = Tasks::default();
        loop {
            tokio::select! {
                () = stop.requested() => break,
                Some((_, ended)) = under_way.ended() => ended?,
                accepted = listener.accept(), if under_way.len() < AT_ONCE => match accepted {
                    Ok((stream, from)) => {
                        let server = self.clone();
                        under_way.spawn("stream", async move {
                            // It ends with whoever asked, or when that is silent.
                            let _ = server.converse(stream, from).await;
                            Ok(())
                        });
                    }
                    Err(_) => tokio::time::sleep(BREATH).await,
                },
            }
        }
        drop(listener);
        drop(listening);
        under_way.all().await
    }

    async fn converse(&self, mut stream: TcpStream, from: SocketAddr) -> std::io::Result<()> {
        loop {
            let question = tokio::time::timeout(IDLE, read_message(&mut stream)).await??;
            let Some(answer) = self.answer(&question, from, By::Stream).await else {
                return Ok(());
            };
            tokio::time::timeout(IDLE, write_message(&mut stream, &answer)).await??;
        }
    }

    async fn answer(&self, question: &[u8], from: SocketAddr, by: By) -> Option<Vec<u8>> {
        let IpAddr::V4(from) = from.ip() else { return None };
        self.inside.counts.questions.fetch_add(1, Relaxed);
        let map = self.inside.known(from).await;
        let said = match names::answer(question, by, map.source(from), &map, self.inside.range) {
            Said::Elsewhere => {
                let answer = match by {
                    By::Datagram => self.resolver.by_datagram(question).await,
                    By::Stream => self.resolver.by_stream(question).await,
                };
                match answer {
                    Some(answer) => return Some(answer),
                    None => {
                        self.inside.counts.unanswered.fetch_add(1, Relaxed);
                        names::failed(question)
                    }
                }
            }
            said => said,
        };
        match said {
            Said::Answer(answer) => Some(answer),
            Said::Elsewhere | Said::Nothing => None,
        }
    }
}
