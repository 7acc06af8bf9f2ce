//! The requests of one HTTP/2 connection, moved along together with it by one task.
//!
//! A task for each would have the connection send each answer by itself. Here all that are ready to go on do,
//! and then the connection sends what has come of it at once.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a connection leaves what is to be done for its requests. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Begun(Arc<Mutex<Vec<Work>>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Begun {
    fn execute(&self, work: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(work));
    }
}

impl Begun {
    fn take(&self) -> Vec<Work> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A connection with its requests. It ends with the connection.
pub(crate) struct Streams<C> {
    pub(crate) connection: Pin<Box<C>>,
    begun: Begun,
    going: FuturesUnordered<Work>,
}

impl<C: Future> Streams<C> {
    /// A connection that leaves its work there.
    pub(crate) fn new(connection: C, begun: Begun) -> Self {
        Self { connection: Box::pin(connection), begun, going: FuturesUnordered::new() }
    }

    fn go_on(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(())) = self.going.poll_next_unpin(cx) {}
    }
}

impl<C: Future> Future for Streams<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let this = &mut *self;
        this.go_on(cx);
        let polled = this.connection.as_mut().poll(cx);
        let begun = this.begun.take();
        if !begun.is_empty() && polled.is_pending() {
            this.going.extend(begun);
            // What can be answered at once wakes the connection.
            this.go_on(cx);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Executor as _;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn all_that_are_ready_go_on_before_the_connection_does() {
        let begun = Begun::default();
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..3).map(|_| oneshot::channel::<()>()).unzip();
        let done = Arc::new(Mutex::new(0));
        for receiver in receivers {
            let done = done.clone();
            begun.execute(async move {
                receiver.await.expect("it is sent");
                *done.lock().expect("nobody panics") += 1;
            });
        }
        let mut senders = Some(senders);
        let (seen, left) = (done.clone(), begun.clone());
        // What it begins with is there once it was polled; then all are let go at once.
        let connection = std::future::poll_fn(move |cx| {
            if let Some(senders) = senders.take() {
                cx.waker().wake_by_ref();
                senders.into_iter().for_each(|sender| sender.send(()).expect("it is awaited"));
                return Poll::Pending;
            }
            Poll::Ready(*seen.lock().expect("nobody panics"))
        });
        assert_eq!(Streams::new(connection, left).await, 3);
    }

    #[tokio::test]
    async fn what_is_going_ends_with_the_connection() {
        let begun = Begun::default();
        let (held, mut ended) = oneshot::channel::<()>();
        begun.execute(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        let mut polls = 0;
        let connection = std::future::poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            if polls > 3 { Poll::Ready(()) } else { Poll::Pending }
        });
        Streams::new(connection, begun).await;
        assert_eq!(ended.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
