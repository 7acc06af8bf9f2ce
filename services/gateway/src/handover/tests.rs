//! Two processes of a gateway that are one here: what becomes of their sockets when either hangs or ends.

use std::net::Ipv4Addr;
use std::time::Duration;

use runtime::tasks::Tasks;
use tokio::net::{TcpListener, TcpStream};

use super::offer::Offer;
use super::take::Before;
use super::*;

const HERE: std::net::IpAddr = std::net::IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running one that has a port.
struct Running {
    handover: Handover,
    path: PathBuf,
    port: u16,
    tasks: Tasks,
    /// Has it end.
    end: Stopper,
    /// All of it has ended, when this says so.
    done: Stopper,
}

impl Running {
    /// One that waits for so long until the next one serves.
    async fn with(name: &str, within: Duration) -> Self {
        let folder =
            std::env::temp_dir().join(format!("muster-handover-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder takes folders");
        let path = path(&folder, &NodeName::new("n1").expect("a name"));
        let (handover, range) = (Handover::default(), None);
        let listener = TcpListener::bind((HERE, 0)).await.expect("there are ports");
        let port = listener.local_addr().expect("it has an address").port();
        let kept = handover.keep(socket(port), &listener).expect("it can be kept");
        let ((end, ends), (all, done)) = (Shutdown::new(), Shutdown::new());
        let mut tasks = Tasks::default();
        let (over, asked) = (handover.over(), ends.clone());
        tasks.spawn("port", async move {
            tokio::select! {
                () = over.requested() => {}
                () = asked.requested() => {}
            }
            drop((kept, listener));
            Ok(())
        });
        let offer =
            Offer { handover: handover.clone(), path: path.clone(), listen: HERE, range, within };
        tasks.spawn("offer", offer.run(ends, done));
        let running = Self { handover, path, port, tasks, end, done: all };
        let found = async {
            while !running.path.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("it offers them");
        running
    }

    /// Asks it: the next one, which has its socket.
    async fn ask(&self) -> (Handover, Before) {
        let next = Handover::default();
        let before = next.ask(&self.path, HERE, None).await.expect("it is the only one");
        let before = before.expect("it gives them");
        (next, before)
    }

    /// A next one takes over, and has a socket that can be reached.
    async fn ends_taken_over(mut self) {
        let (next, before) = self.ask().await;
        let alone = watch::Sender::default();
        next.take_turn(Some(before), async {}, &alone).await.expect("it lets go");
        assert!(*alone.borrow() && self.handover.over().is_requested());
        // What nobody has a use for is shut, and nobody listens any more.
        TcpStream::connect((HERE, self.port)).await.expect_err("it is shut");
        while let Some((_, ended)) = self.tasks.ended().await {
            ended.expect("it ends well");
        }
        assert!(!self.path.exists(), "the place is the next one's");
        let folder = self.path.parent().expect("it is in a folder");
        std::fs::remove_dir_all(folder).expect("it is ours");
    }
}

fn socket(port: u16) -> Socket {
    Socket::Published { protocol: Protocol::Tcp, port }
}

#[tokio::test]
async fn one_that_ends_before_it_serves_is_as_if_it_had_not_been() {
    let running = Running::with("ends", PATIENCE).await;
    let (next, before) = running.ask().await;
    assert!(next.taken(socket(running.port)).is_some());
    assert!(*running.handover.beside().borrow());
    let mut beside = running.handover.beside();
    drop((next, before));
    let alone = beside.wait_for(|beside| !*beside);
    tokio::time::timeout(PATIENCE, alone).await.expect("it is seen").expect("it is there");
    assert!(!running.handover.over().is_requested());
    TcpStream::connect((HERE, running.port)).await.expect("it is served");
    running.ends_taken_over().await;
}

#[tokio::test]
async fn one_that_does_not_serve_in_time_is_refused_and_the_running_one_serves_on() {
    let running = Running::with("hangs", Duration::from_millis(50)).await;
    let (next, before) = running.ask().await;
    let alone = watch::Sender::default();
    let turn = next.take_turn(Some(before), std::future::pending(), &alone);
    let refused = tokio::time::timeout(PATIENCE, turn).await.expect("it is not waited for");
    let refused = refused.expect_err("it is not its turn").to_string();
    assert!(refused.contains("serves on") && refused.contains("did not serve"), "{refused}");
    assert!(!*alone.borrow() && !running.handover.over().is_requested());
    // As it ends, for it has been told to.
    drop(next);
    TcpStream::connect((HERE, running.port)).await.expect("it is served");
    running.ends_taken_over().await;
}

#[tokio::test]
async fn one_that_ends_leaves_its_sockets_to_who_has_them_though_that_one_is_not_ready() {
    let mut running = Running::with("leaves", PATIENCE).await;
    let (next, before) = running.ask().await;
    let listener = next.taken(socket(running.port)).expect("it is given");
    running.end.stop();
    let alone = watch::Sender::default();
    let turn = next.take_turn(Some(before), std::future::pending(), &alone);
    tokio::time::timeout(PATIENCE, turn).await.expect("it is told").expect("it is its turn");
    assert!(*alone.borrow());
    assert!(!running.handover.over().is_requested(), "it ends as soon as it can");
    while let Some((_, ended)) = running.tasks.ended().await {
        ended.expect("it ends well");
    }
    // Nobody is refused in between.
    let _client = TcpStream::connect((HERE, running.port)).await.expect("it is listened on");
    let at = std::net::SocketAddr::from((HERE, running.port));
    let listener = crate::tcp::go_on(listener, at).expect("it is the port");
    listener.accept().await.expect("the client waits");
}

#[tokio::test]
async fn one_that_ends_while_the_next_one_waits_for_its_sockets_still_gives_them() {
    let mut running = Running::with("waited-for", PATIENCE).await;
    let mut beside = running.handover.beside();
    let next = Handover::default();
    // Nobody tells that there are two: it is asked to end in the time that it gives for that.
    let ends = async {
        beside.wait_for(|beside| *beside).await.expect("it is there");
        running.end.stop();
        running.done.stop();
    };
    let (before, ()) = tokio::join!(next.ask(&running.path, HERE, None), ends);
    let before = before.expect("it is the only one").expect("it gives them");
    let _listener = next.taken(socket(running.port)).expect("it is given");
    TcpStream::connect((HERE, running.port)).await.expect("it is listened on");
    let alone = watch::Sender::default();
    let turn = next.take_turn(Some(before), std::future::pending(), &alone);
    tokio::time::timeout(PATIENCE, turn).await.expect("it is told").expect("it is its turn");
    while let Some((_, ended)) = running.tasks.ended().await {
        ended.expect("it ends well");
    }
}

#[tokio::test]
async fn who_asks_for_other_ports_gets_none() {
    let running = Running::with("other", PATIENCE).await;
    let other = Ipv4Addr::new(127, 0, 0, 2).into();
    let asked = Handover::default().ask(&running.path, other, None).await;
    assert!(asked.expect("it is the only one").is_none());
    running.ends_taken_over().await;
}

#[tokio::test]
async fn a_page_at_a_fixed_address_goes_from_one_to_the_next_and_a_strangers_is_an_error() {
    let handover = Handover::default();
    let at = |port| std::net::SocketAddr::from((HERE, port));
    let free = TcpListener::bind(at(0)).await.expect("there are ports");
    let address = free.local_addr().expect("it has an address");
    let first = Turn { handover: handover.clone(), before: None };
    let strange = first.page(address).await.expect_err("it is a stranger's").to_string();
    assert!(strange.contains("--admin-address") && strange.contains("end that one"), "{strange}");
    drop(free);
    let page = first.page(address).await.expect("it is free");
    let copy = lock(&handover.0.kept)[&Socket::Page].1.try_clone().expect("it can be given");
    let next = Handover::default();
    lock(&next.0.taken).insert(Socket::Page, copy);
    let _next = Turn { handover: next, before: None }.page(address).await.expect("it is given");
    handover.0.over.stop();
    let (_stopper, shutdown) = Shutdown::new();
    page.serve(runtime::Admin::default(), shutdown).await.expect("it ends for the next one");
    assert!(lock(&handover.0.kept).is_empty());
}

#[tokio::test]
async fn whoever_is_third_hears_at_once_that_another_one_is_about_to_take_over() {
    let running = Running::with("third", PATIENCE).await;
    let (next, before) = running.ask().await;
    let third = || async {
        let handover = Handover::default();
        handover.ask(&running.path, HERE, None).await.expect_err("it is third").to_string()
    };
    for _ in 0..2 {
        let why = third().await;
        let next = format!("process {}", std::process::id());
        assert!(why.contains(&next) && why.contains("only one can"), "{why}");
    }
    // So it is between the two, when the one has let go and the other has not put its own place there.
    let alone = watch::Sender::default();
    next.take_turn(Some(before), async {}, &alone).await.expect("it lets go");
    let why = third().await;
    assert!(why.contains("only one can"), "{why}");
    let ends = Shutdown::new();
    let (own, path) = (next.clone(), running.path.clone());
    let offer = Offer { handover: own, path, listen: HERE, range: None, within: PATIENCE };
    let mut tasks = Tasks::default();
    tasks.spawn("offer", offer.run(ends.1.clone(), ends.1));
    let last = Handover::default();
    let taken = async {
        loop {
            match last.ask(&running.path, HERE, None).await {
                Ok(Some(before)) => return before,
                Ok(None) => panic!("nobody is there"),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("its turn comes");
    std::fs::remove_dir_all(running.path.parent().expect("it is in a folder")).expect("it is ours");
}
