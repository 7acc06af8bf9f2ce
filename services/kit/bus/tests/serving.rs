//! Requests and answers: data, errors with a code, nobody there, and too late.

use std::time::Duration;

use bus::testing::Server;
use bus::{RequestError, Served};

const LIMIT: Duration = Duration::from_secs(5);

/// Answers `count` requests by what they ask for.
async fn answer(mut served: Served, count: usize) -> Served {
    for _ in 0..count {
        let request = served.next().await.expect("there is a connection");
        let asked = String::from_utf8_lossy(&request.payload).into_owned();
        match asked.as_str() {
            "nothing" => {}
            "error" => request.respond(Err((404, "there is\nno such app".to_owned()))).await,
            "much" => request.respond(Ok(vec![b'x'; 2 * 1024 * 1024])).await,
            _ => {
                let text = format!("{} heard {asked}", request.subject);
                request.respond(Ok(text.into_bytes())).await;
            }
        }
    }
    served
}

#[tokio::test]
async fn requests_reach_the_endpoint_they_were_sent_to() {
    let server = Server::start();
    let bus = server.bus("asker").await;
    let service = server.bus("service").await;
    let served =
        service.serve("log", "a test", &["api.state", "api.why"]).await.expect("loopback works");
    service.flush().await.expect("loopback works");
    let asking = async {
        for subject in ["api.state", "api.why"] {
            let answer =
                bus.request(subject, b"this".to_vec(), LIMIT).await.expect("loopback works");
            assert_eq!(answer.as_ref(), format!("{subject} heard this").as_bytes());
        }
    };
    tokio::join!(answer(served, 2), asking);
}

/// How many services of the name say that they are there.
async fn discovered(bus: &bus::Bus) -> usize {
    match bus.request("$SRV.PING.log", Vec::new(), LIMIT).await {
        Ok(_) => 1,
        Err(RequestError::NobodyThere(_)) => 0,
        Err(other) => panic!("{other}"),
    }
}
