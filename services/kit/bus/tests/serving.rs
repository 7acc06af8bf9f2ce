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

#[tokio::test]
async fn each_way_to_fail_has_its_own_error() {
    let server = Server::start();
    let bus = server.bus("asker").await;
    let service = server.bus("service").await;
    let nobody = bus.request("api.state", Vec::new(), LIMIT).await.unwrap_err();
    assert!(matches!(nobody, RequestError::NobodyThere(_)), "{nobody}");
    let served = service.serve("log", "a test", &["api.state"]).await.expect("loopback works");
    service.flush().await.expect("loopback works");
    let asking = async {
        let refused = bus.request("api.state", b"error".to_vec(), LIMIT).await.unwrap_err();
        match &refused {
            RequestError::Refused { code: 404, text } => assert_eq!(text, "there is no such app"),
            other => panic!("{other}"),
        }
        let short = Duration::from_millis(200);
        let late = bus.request("api.state", b"nothing".to_vec(), short).await.unwrap_err();
        assert!(matches!(late, RequestError::TimedOut(_)), "{late}");
        let much = bus.request("api.state", b"much".to_vec(), LIMIT).await.unwrap_err();
        assert!(matches!(much, RequestError::Refused { code: 413, .. }), "{much}");
    };
    let (served, ()) = tokio::join!(answer(served, 3), asking);
    assert_eq!(discovered(&bus).await, 1);
    drop(served);
    let gone = async { while discovered(&bus).await > 0 {} };
    tokio::time::timeout(LIMIT, gone).await.expect("a service that ended is not discovered");
    let nobody = bus.request("api.state", Vec::new(), LIMIT).await.unwrap_err();
    assert!(matches!(nobody, RequestError::NobodyThere(_)), "{nobody}");
}

/// How many services of the name say that they are there.
async fn discovered(bus: &bus::Bus) -> usize {
    match bus.request("$SRV.PING.log", Vec::new(), LIMIT).await {
        Ok(_) => 1,
        Err(RequestError::NobodyThere(_)) => 0,
        Err(other) => panic!("{other}"),
    }
}
