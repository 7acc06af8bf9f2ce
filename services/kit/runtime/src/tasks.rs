//! Tasks by name. None is detached: whoever started them ends when one fails, and all end with it.

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
