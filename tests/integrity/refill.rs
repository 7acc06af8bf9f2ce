//! A lone event-log whose stream and witness are gone fills the stream again from its log. What is
//! now it tells once it has, and never an older state before.

use std::time::Duration;

use bus::testing::Server;
use bus::{Bus, RequestError};
use event_log::testing::Folder;
use schemas::read::{Head, LogRequest};
use schemas::{stream, subject};
use tests::live_log::LiveLog;

const PATIENCE: Duration = Duration::from_secs(10);

async fn ask(bus: &Bus, verb: &str, request: &[u8]) -> Result<Vec<u8>, RequestError> {
    bus.request(&subject::api(verb), request.to_vec(), PATIENCE).await.map(|bytes| bytes.to_vec())
}

fn is_told(refused: &RequestError) -> bool {
    refused.to_string().contains("refilling up to")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_older_state_is_told_while_the_stream_is_filled_again() {
    let (state, server) = (Folder::new(), Server::start());
    let mut log = LiveLog::start(&server, state.path()).await;
    log.serves().await.expect("it begins a history");
    log.append(1_000).await;
    let before = log.head().await.expect("it answers");
    log.stop().await;
    server.delete_stream(stream::EVENTS.name).await;
    let folder = event_log::config::folder(state.path());
    std::fs::remove_file(folder.join(event_log::witness::FILE)).expect("it was there");

    let bus = server.bus("reader").await;
    let log = LiveLog::start(&server, state.path()).await;
    let after = loop {
        match ask(&bus, "head", b"{}").await {
            Ok(head) => break serde_json::from_slice::<Head>(&head).expect("a head"),
            Err(RequestError::NobodyThere(_)) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(refused) if is_told(&refused) => {}
            Err(error) => panic!("{error}"),
        }
        let newest = LogRequest { newest: true, limit: Some(1), ..LogRequest::default() };
        match runtime::history::page(&bus, &newest).await {
            Ok(page) => assert!(page.place.position >= before.place.position, "{}", page.place),
            Err(RequestError::NobodyThere(_)) => {}
            Err(refused) => assert!(is_told(&refused), "{refused}"),
        }
    };
    assert!(after.place.position >= before.place.position, "{} {}", after.place, before.place);
    assert_eq!(after.genesis, before.genesis);
    log.stop().await;
}
