//! A gateway as a process that a service manager ends, and starts anew with the sockets that it kept.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use schemas::event::AppDeleteStarted;
use schemas::report::Standing;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::handover::{anew, answers, load};
use super::*;

/// How often the gateway is restarted.
const TIMES: u32 = 5;

/// A service manager, and the gateway that it has. Both end with it.
struct Manager {
    _child: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
}

impl Manager {
    async fn start(server: &Server) -> Self {
        let manager = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reports/manager.py");
        let state = server.folder().join("state");
        let mut command = Command::new("python3");
        command.arg(manager).arg(env!("CARGO_BIN_EXE_muster-gateway"));
        command.args(["--nats-url", &server.url(), "--node", "n1", "--listen", "127.0.0.1"]);
        command.arg("--no-names").arg("--state-dir").arg(state);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("there is python3");
        let to = child.stdin.take().expect("it is piped");
        let from = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut manager = Self { _child: child, to, from };
        assert!(manager.says().await.starts_with("ready "));
        manager
    }

    async fn says(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE * 2, self.from.next_line()).await;
        let line = line.expect("it says something").expect("it can be read");
        line.expect("it has not ended: see what the gateway wrote")
    }

    /// Tells it to do something: what it says when that is done.
    async fn told(&mut self, word: &str) -> String {
        self.to.write_all(format!("{word}\n").as_bytes()).await.expect("it listens");
        self.says().await
    }
}

/// A world of which a service manager has the gateway, and one that serves a port by now.
async fn managed() -> (World, Manager, u16) {
    let mut world = World::start().await;
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
    let manager = Manager::start(&world.server).await;
    let at = world.history.fold.place();
    let serves = |report: &GatewayReport| !at.after(&report.place);
    world.report("it serves", serves).await;
    (world, manager, published)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_by_a_service_manager_loses_no_request_and_refuses_nobody() {
    let (mut world, mut manager, published) = managed().await;
    let name = format!("tcp-{published}");
    assert_eq!(manager.told("kept").await, format!("kept {name}"));

    let end = Arc::new(AtomicBool::new(false));
    let [on_new, on_kept] = [false, true].map(|kept| load(published, kept, end.clone()));
    let restarts = async {
        for _ in 0..TIMES {
            assert_eq!(manager.told("restart").await, "ready serving");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // It begins by what was known a moment ago, whether or not history can be heard.
        world.server.kill();
        assert_eq!(manager.told("restart").await, "ready serving");
        world.server.launch();
        end.store(true, Relaxed);
    };
    let ((answered, failed), (kept, broken), ()) = tokio::join!(on_new, on_kept, restarts);
    assert!(answered > TIMES && kept > TIMES, "{answered}, {kept}");
    assert_eq!((failed, broken), (0, 0), "of {answered} and {kept}");

    // No word of a restart is that nobody is to be waited for.
    let at = world.history.fold.place();
    let serves = |report: &GatewayReport| {
        assert_ne!(report.standing, Standing::Ended);
        !at.after(&report.place)
    };
    world.report("it serves again", serves).await;
    while !world.bus.connected() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // What is not published any more is not kept, and whoever comes does not wait there.
    let event = AppDeleteStarted { app: app("shop") };
    world.history.add(&Writer::Controller, event);
    world.publish().await;
    let at = world.history.fold.place();
    world.report("it is led nowhere", |report| !at.after(&report.place)).await;
    assert_eq!(manager.told("kept").await, "kept");
    TcpStream::connect((HERE, published)).await.expect_err("nobody listens");
    assert_eq!(manager.told("stop").await, "stopped 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_after_a_crash_waits_and_a_port_that_left_meanwhile_is_given_up() {
    let (mut world, mut manager, published) = managed().await;
    let end = Arc::new(AtomicBool::new(false));
    let refused = async {
        let (mut refused, mut came) = (0, 0);
        while !end.load(Relaxed) {
            match TcpStream::connect((HERE, published)).await {
                Ok(_) => came += 1,
                Err(_) => refused += 1,
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        (came, refused)
    };
    let crashes = async {
        for _ in 0..3 {
            assert_eq!(manager.told("crash").await, "ready serving");
            assert_eq!(anew(published).await, Some(()), "it serves");
        }
        end.store(true, Relaxed);
    };
    let ((came, refused), ()) = tokio::join!(refused, crashes);
    assert!(came > 0);
    assert_eq!(refused, 0, "of {came}");

    // It finds out what is so now, and lets go of what it was left for nothing.
    let event = AppDeleteStarted { app: app("shop") };
    world.history.add(&Writer::Controller, event);
    world.publish().await;
    assert!(manager.told("crash").await.starts_with("ready "));
    let at = world.history.fold.place();
    world.report("it is led nowhere", |report| !at.after(&report.place)).await;
    let gone = async {
        while manager.told("kept").await != "kept" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("it is given up");
    TcpStream::connect((HERE, published)).await.expect_err("nobody listens");
}
