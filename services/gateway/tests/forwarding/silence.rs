//! Machines that say nothing: clients are kept from waiting for them.

use std::net::TcpStream as Blocking;

use socket2::{Domain, Socket, Type};

use super::backend::{Backend, Client, Manner};
use super::*;

/// How long a connection takes at most where somebody takes it.
const SOON: Duration = Duration::from_millis(300);

/// A replica on a machine of its own that takes no connection any more: whoever connects hears nothing.
struct Silent {
    at: SocketAddr,
    _listener: Socket,
    _waiting: Vec<Blocking>,
}

impl Silent {
    fn start() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("there are sockets");
        let at = SocketAddr::from(([127, 0, 0, 2], 0));
        listener.bind(&at.into()).expect("there are ports");
        listener.listen(0).expect("it can be listened on");
        let at = listener.local_addr().expect("it has an address");
        let at = at.as_socket().expect("it is one of the Internet");
        // Nobody takes these, and there is no room for more of them.
        let waiting = std::iter::from_fn(|| Blocking::connect_timeout(&at, SOON).ok());
        let waiting = waiting.take(64).collect();
        Self { at, _listener: listener, _waiting: waiting }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_waits_for_a_machine_that_says_nothing_and_no_other_one_does() {
    let mut gateway = Gateway::speaking(AppProtocol::Http);
    let good = Backend::start(&mut gateway, Manner::Well).await;
    let silent = tokio::task::block_in_place(|| [Silent::start(), Silent::start()]);
    let port = free().port();
    let at = [silent[0].at, silent[1].at, good.at];
    gateway.lead(Protocol::Tcp, &[(port, &at)]).await;
    let mut client = Client::connect(port).await;
    let mut asked = 0;
    // At first, and when what was not reached would have its next turn.
    for _ in 0..3 {
        for _ in 0..40 {
            assert_eq!(client.get("/").await.expect("it is answered").status(), 200);
            asked += 1;
        }
        let all = format!("code=\"2xx\"}} {asked}");
        gateway.until("they are told of", |text| text.contains(&all)).await;
        assert_eq!(gateway.number("connect_failures_total"), 1, "after {asked} requests");
        tokio::time::sleep(Duration::from_millis(1_200)).await;
    }
}
