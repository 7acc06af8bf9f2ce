//! A gateway that another one takes over from, and one that starts without a server.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use cluster::Fold;
use schemas::report::Standing;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n";

/// A server of HTTP that says `ok` to whatever it is asked, as often as it is.
pub(super) async fn answers(tasks: &mut Tasks) -> u16 {
    let listener = TcpListener::bind((HERE, 0)).await.expect("there are ports");
    let port = listener.local_addr().expect("it has an address").port();
    tasks.spawn("answers", async move {
        let mut connections = Tasks::default();
        loop {
            let (mut stream, _) = listener.accept().await?;
            connections.spawn("connection", async move {
                while let Some(_head) = head(&mut stream).await {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await?;
                }
                Ok(())
            });
        }
    });
    port
}

/// What comes until an empty line.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// Asks on a connection: the head of the answer.
pub(super) async fn ask(stream: &mut TcpStream) -> Option<String> {
    stream.write_all(ASK).await.ok()?;
    let head = head(stream).await?;
    let mut body = [0; 2];
    stream.read_exact(&mut body).await.ok()?;
    (head.starts_with("HTTP/1.1 200") && body == *b"ok").then_some(head)
}

/// Asks on a new connection.
pub(super) async fn anew(port: u16) -> Option<()> {
    let mut stream = TcpStream::connect((HERE, port)).await.ok()?;
    ask(&mut stream).await.map(|_| ())
}

/// Asks without a pause until told to end: on connections of their own, and on one that is kept as long
/// as the answers say. How many were answered, and how many were not.
pub(super) async fn load(port: u16, kept: bool, end: Arc<AtomicBool>) -> (u32, u32) {
    let (mut answered, mut failed) = (0, 0);
    let mut stream: Option<TcpStream> = None;
    while !end.load(Relaxed) {
        let mut own = match stream.take() {
            Some(stream) => stream,
            None => match TcpStream::connect((HERE, port)).await {
                Ok(stream) => stream,
                Err(_) => {
                    failed += 1;
                    continue;
                }
            },
        };
        match ask(&mut own).await {
            Some(head) => {
                answered += 1;
                let last = head.to_ascii_lowercase().contains("connection: close");
                stream = Some(own).filter(|_| kept && !last);
            }
            None => failed += 1,
        }
    }
    (answered, failed)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_gateway_takes_over_without_a_lost_request_and_the_last_one_finishes() {
    let mut world = World::start().await;
    let published = world.deploy(AppProtocol::Http);
    let backend = answers(&mut world.tasks).await;
    ready(&mut world.history, "shop-web-a", backend);
    world.publish().await;
    let at = world.history.fold.place();
    let first = world.report("it serves", |report| !at.after(&report.place)).await;
    assert_eq!(first.standing, Standing::Serves);
    let mut idle = TcpStream::connect((HERE, published)).await.expect("it is served");
    ask(&mut idle).await.expect("it is answered");

    let end = Arc::new(AtomicBool::new(false));
    let asked = [false, true].map(|kept| load(published, kept, end.clone()));
    let [on_new, on_kept] = asked;
    let mut others = Tasks::default();
    let (stopper, shutdown) = Shutdown::new();
    let turn = async {
        // As often as that it changes hands, each time to one that knows of none but the one before.
        let (next, stop) = (config(&world.server), shutdown.clone());
        others.spawn("second", gateway::run(next, Admin::default(), stop));
        let old = first.instance.clone();
        let beside =
            |report: &GatewayReport| report.instance == old && report.standing == Standing::Beside;
        world.report("the first one is beside it", beside).await;
        let serves =
            |report: &GatewayReport| report.instance != old && report.standing == Standing::Serves;
        let second = world.report("the next one has the ports", serves).await;
        end.store(true, Relaxed);
        second
    };
    let ((answered, failed), (kept, broken), second) = tokio::join!(on_new, on_kept, turn);
    assert!(answered > 0 && kept > 0);
    assert_eq!((failed, broken), (0, 0), "of {answered} and {kept}");
    assert_eq!(second.place, at);

    // A connection that was idle all the time is answered by the one that it is on, which then ends.
    let head = ask(&mut idle).await.expect("it is still open");
    assert!(head.to_ascii_lowercase().contains("connection: close"), "{head}");
    drop(idle);
    let old = first.instance;
    let over =
        |report: &GatewayReport| report.instance == old && report.standing == Standing::Ended;
    world.report("the first one has ended", over).await;
    while let Some((name, ended)) = world.tasks.ended().await {
        ended.expect("it ends well");
        if name == "gateway" {
            break;
        }
    }
    assert_eq!(anew(published).await, Some(()), "the second one serves");

    // It knows what it serves when it starts without a server, and says how old that is.
    stopper.stop();
    others.all().await.expect("it ends well");
    assert_eq!(anew(published).await, None, "nobody serves");
    world.server.kill();
    let (mut third, admin) = (Tasks::default(), Admin::default());
    let (_stopper, shutdown) = Shutdown::new();
    third.spawn("third", gateway::run(config(&world.server), admin.clone(), shutdown));
    is_served(published).await;
    let page = admin.readiness.page().1;
    assert!(page.contains("waits for NATS") && page.contains("by what was known"), "{page}");
    world.server.launch();
    let now = async {
        while admin.readiness.page().1 != "ready\n" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, now).await.expect("it serves by what is so now");
    third.shutdown().await;
}

/// Waits until a port is served.
pub(super) async fn is_served(port: u16) {
    let served = async {
        while anew(port).await.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, served).await.expect("it is served");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_away_the_running_gateway_serves_on_until_it_is_ended() {
    let mut world = World::start().await;
    let published = world.deploy(AppProtocol::Http);
    let backend = answers(&mut world.tasks).await;
    ready(&mut world.history, "shop-web-a", backend);
    world.publish().await;
    let at = world.history.fold.place();
    world.report("it serves", |report| !at.after(&report.place)).await;
    is_served(published).await;
    let kept = world.server.folder().join("state/gateway-n1-table.fold");
    let is_kept = async {
        let known = || Fold::restore(&std::fs::read(&kept).ok()?).ok();
        while known().is_none_or(|known| at.after(&known.place())) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, is_kept).await.expect("what is known is kept");
    world.server.kill();

    // One that is asked to end before its turn has changed nothing.
    let mut quits = Tasks::default();
    let (quit, shutdown) = Shutdown::new();
    quits.spawn("quits", gateway::run(config(&world.server), Admin::default(), shutdown));
    tokio::time::sleep(Duration::from_millis(300)).await;
    quit.stop();
    let ended = tokio::time::timeout(PATIENCE, quits.all()).await.expect("it ends at once");
    ended.expect("it ends well");
    assert_eq!(anew(published).await, Some(()), "it is served on");

    // The next one has the ports, and leaves them to the one that knows better.
    let (mut next, admin) = (Tasks::default(), Admin::default());
    let (_stopper, shutdown) = Shutdown::new();
    next.spawn("next", gateway::run(config(&world.server), admin.clone(), shutdown));
    let end = Arc::new(AtomicBool::new(false));
    let asked = load(published, false, end.clone());
    let turn = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!admin.readiness.page().1.contains("known"), "{}", admin.readiness.page().1);
        // As an operator has it end: it serves by what was known last, and nobody was refused.
        world.stopper.stop();
        let takes = async {
            while !admin.readiness.page().1.contains("known") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, takes).await.expect("it serves by what was known last");
        tokio::time::sleep(Duration::from_millis(200)).await;
        end.store(true, Relaxed);
    };
    let ((answered, failed), ()) = tokio::join!(asked, turn);
    assert!(answered > 0);
    assert_eq!(failed, 0, "of {answered}");
    next.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_finishes_ends_when_it_is_asked_to() {
    let mut world = World::start().await;
    let published = world.deploy(AppProtocol::Tcp);
    let backend = silent(&mut world.tasks).await;
    ready(&mut world.history, "shop-web-a", backend);
    world.publish().await;
    let at = world.history.fold.place();
    let first = world.report("it serves", |report| !at.after(&report.place)).await;
    let mut client = TcpStream::connect((HERE, published)).await.expect("it is served");
    client.write_all(b"hello").await.expect("it is taken");
    let (_stopper, shutdown) = Shutdown::new();
    let mut next = Tasks::default();
    next.spawn("next", gateway::run(config(&world.server), Admin::default(), shutdown));
    let old = first.instance;
    let serves =
        |report: &GatewayReport| report.instance != old && report.standing == Standing::Serves;
    world.report("the next one has the ports", serves).await;
    client.write_all(b"still").await.expect("the old one carries it");
    world.stopper.stop();
    let ended =
        |report: &GatewayReport| report.instance == old && report.standing == Standing::Ended;
    world.report("it has not waited for the connection", ended).await;
    assert_eq!(client.read(&mut [0]).await.ok().filter(|bytes| *bytes > 0), None, "it is ended");
    TcpStream::connect((HERE, published)).await.expect("the next one serves");
    next.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_hangs_is_not_waited_for_and_a_bad_file_is_left_out() {
    let mut world = World::start().await;
    let state = world.server.folder().join("other");
    std::fs::create_dir_all(&state).expect("the folder takes folders");
    // Who answers nothing, and what is no snapshot.
    let hangs = std::os::unix::net::UnixListener::bind(state.join("gateway-n1.sock"));
    let _hangs = hangs.expect("it is a place for a socket");
    std::fs::write(state.join("gateway-n1-table.fold"), b"{").expect("the folder takes files");
    world.stopper.stop();
    while let Some((name, ended)) = world.tasks.ended().await {
        ended.expect("it ends well");
        if name == "gateway" {
            break;
        }
    }
    let published = world.deploy(AppProtocol::Http);
    let backend = answers(&mut world.tasks).await;
    ready(&mut world.history, "shop-web-a", backend);
    world.publish().await;
    let mut config = config(&world.server);
    config.settings.state_dir = state;
    let (stopper, shutdown) = Shutdown::new();
    let mut next = Tasks::default();
    next.spawn("next", gateway::run(config, Admin::default(), shutdown));
    world.report("it serves", |report| report.standing == Standing::Serves).await;
    assert_eq!(anew(published).await, Some(()));
    stopper.stop();
    next.all().await.expect("it ends well");
}
