//! Tasks by name. None is detached: whoever started them ends when one fails, and all end with it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::task::JoinSet;

use crate::Failure;

/// Tasks that belong together.
#[derive(Default)]
pub struct Tasks(JoinSet<(String, Result<(), Failure>)>);

impl Tasks {
    /// Starts a task.
    pub fn spawn<F>(&mut self, name: impl Into<String>, task: F)
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let name = name.into();
        self.0.spawn(async move { (name, task.await) });
    }

    /// How many are running.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is running.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ends all of them now.
    pub async fn shutdown(&mut self) {
        self.0.shutdown().await;
    }

    /// Waits for the next one to end: its name, and how. `None` when none is left.
    pub async fn ended(&mut self) -> Option<(String, Result<(), Failure>)> {
        match self.0.join_next().await? {
            Ok(ended) => Some(ended),
            Err(error) => Some(("a task".to_owned(), Err(error.into()))),
        }
    }

    /// Waits until all have ended, or one has failed; then ends the rest.
    ///
    /// # Errors
    ///
    /// The first failure, with the name of its task.
    pub async fn all(mut self) -> Result<(), Failure> {
        while let Some((name, outcome)) = self.ended().await {
            outcome
                .map_err(|error| format!("{name}: {}", crate::process::chain(error.as_ref())))?;
        }
        Ok(())
    }
}

/// Small tasks that nobody waits for. They end with it.
#[derive(Debug, Default)]
pub struct Crew(Arc<Mutex<JoinSet<()>>>);

/// Adds to a crew, as long as it is there. Cheap to clone; tasks of the crew may have it.
#[derive(Clone, Debug)]
pub struct Hand(Weak<Mutex<JoinSet<()>>>);

impl Crew {
    /// What tasks are added with.
    #[must_use]
    pub fn hand(&self) -> Hand {
        Hand(Arc::downgrade(&self.0))
    }
}

impl Hand {
    /// Starts a task. Without its crew nothing is started.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let Some(crew) = self.0.upgrade() else { return };
        let mut tasks = crew.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Hand {
    fn execute(&self, task: F) {
        self.spawn(task);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_crews_tasks_end_with_it() {
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<()>(1);
        let crew = Crew::default();
        let hand = crew.hand();
        let held = sender.clone();
        hand.spawn(async move {
            held.send(()).await.expect("it is received");
            std::future::pending::<()>().await;
        });
        assert_eq!(receiver.recv().await, Some(()));
        drop((crew, sender));
        let ended = tokio::time::timeout(Duration::from_secs(10), receiver.recv()).await;
        assert_eq!(ended.expect("the task has ended"), None);
        hand.spawn(async { panic!("without a crew nothing is started") });
    }
}
