//! Requests and answers: data, and errors with a code.

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
            "error" => request.respond(Err((404, "there is\nno such app".to_owned()))).await,
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
async fn an_error_comes_with_its_code_on_one_line() {
    let server = Server::start();
    let bus = server.bus("asker").await;
    let service = server.bus("service").await;
    let served = service.serve("log", "a test", &["api.state"]).await.expect("loopback works");
    let asking = async {
        let refused = bus.request("api.state", b"error".to_vec(), LIMIT).await;
        let Err(RequestError::Refused { code, text }) = refused else { panic!("{refused:?}") };
        assert_eq!((code, text.as_str()), (404, "there is no such app"));
    };
    tokio::join!(answer(served, 1), asking);
    let nobody = bus.request("api.nothing", Vec::new(), LIMIT).await;
    assert!(matches!(nobody, Err(RequestError::NobodyThere(_))), "{nobody:?}");
}
