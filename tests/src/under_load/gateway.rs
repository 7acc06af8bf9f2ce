//! A gateway is replaced by its next process: while everything is there, and while NATS is away.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::stage::Stage;
use crate::cluster::{PATIENCE, get};
use crate::load::Outcome;

/// How many requests there are at least while something is done.
const LEAST: u64 = 600;

/// What is under way when the next one takes over, and takes longer than that does, in ms.
const LONG_MS: u64 = 4_000;

/// What the next one says when the one before it takes nothing new any more.
const TOOK_OVER: &str = "took over; the gateway before us finishes what is open";

pub(super) fn gateway(stage: &mut Stage, round: usize) -> Outcome {
    let number = round % 3;
    let name = stage.cluster.gateways()[number].clone();
    let at = stage.gateways()[number];
    let load = stage.load_on_all();

    // The next one takes over. What was open before goes on where it is.
    let mut idle = Idle::at(at);
    assert!(idle.ask("/"), "nothing is taken over yet");
    let mut long = Idle::at(at);
    let long = std::thread::spawn(move || long.ask(&format!("/sleep?ms={LONG_MS}")));
    let taken = stage.cluster.said(&name, TOOK_OVER);
    stage.cluster.run_next(&name);
    stage
        .cluster
        .until("the next one has taken over", |cluster| cluster.said(&name, TOOK_OVER) > taken);
    assert!(!long.is_finished(), "it is still under way");
    assert!(!long.join().expect("it is answered"), "it was the last on its connection");
    assert!(!idle.ask("/"), "the last one says that it was the last");
    stage.cluster.has_ended_well(&name);

    // NATS is away: the one that is told to end leaves everything to one that serves by what was known.
    let known = stage.cluster.said(&name, "serving by what was known last");
    let heard = stage.cluster.said(&name, "history is heard again");
    let given = stage.cluster.said(&name, "taking over from the running gateway");
    stage.cluster.server.kill();
    stage.cluster.run_next(&name);
    stage.cluster.until("the next one has the sockets", |cluster| {
        cluster.said(&name, "taking over from the running gateway") > given
    });
    stage.cluster.end_before(&name);
    stage.cluster.until("the next one serves by what was known", |cluster| {
        cluster.said(&name, "serving by what was known last") > known
    });
    assert!(get(&at.to_string(), "/").is_ok_and(|(status, _)| status == 200));
    stage.cluster.has_ended_well(&name);
    stage.after();
    stage.cluster.server.launch();
    stage.cluster.until("the next one hears history", |cluster| {
        cluster.said(&name, "history is heard again") > heard
    });
    stage.settled();
    stage.after();
    let outcome = load.end_after(LEAST);
    outcome.is_all_well("a gateway is replaced, with NATS and without", LEAST);
    outcome
}

/// A connection that is kept, and mostly at rest.
struct Idle(BufReader<TcpStream>);

impl Idle {
    fn at(at: SocketAddr) -> Self {
        let stream = TcpStream::connect(at).expect("it is served");
        stream.set_read_timeout(Some(PATIENCE)).expect("a connection takes a bound");
        Self(BufReader::new(stream))
    }

    /// Asks, and is answered: whether the connection goes on.
    fn ask(&mut self, path: &str) -> bool {
        let request = format!("GET {path} HTTP/1.1\r\nhost: shop.example\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).expect("it is open");
        let (mut line, mut length, mut goes_on) = (String::new(), 0, true);
        assert_ne!(self.0.read_line(&mut line).expect("it is answered"), 0, "it was closed");
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        while line != "\r\n" {
            line.clear();
            let _ = self.0.read_line(&mut line).expect("the head goes on");
            let header = line.to_ascii_lowercase();
            if let Some(text) = header.strip_prefix("content-length:") {
                length = text.trim().parse().expect("a length");
            }
            goes_on &= header.trim() != "connection: close";
        }
        self.0.read_exact(&mut vec![0; length]).expect("the answer is whole");
        goes_on
    }
}
