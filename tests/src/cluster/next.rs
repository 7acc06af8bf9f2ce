//! The next process of a service, which takes over from the one that runs.

use super::Cluster;

impl Cluster {
    /// Starts the next process of a service beside the one that runs, which is expected to end.
    pub fn run_next(&mut self, name: &str) {
        let running = self.running.remove(name).expect("it runs");
        self.running.insert(before(name), running);
        self.run(name);
    }

    /// Asks the one before to end, as an operator does.
    pub fn end_before(&self, name: &str) {
        self.signal(&before(name), "TERM");
    }

    /// Waits until the one before has ended.
    pub fn has_ended_well(&mut self, name: &str) {
        let mut child = self.running.remove(&before(name)).expect("there is one before it");
        let mut ended = None;
        self.until("the one before has ended", |_| {
            ended = child.try_wait().expect("it can be waited for");
            ended.is_some()
        });
        assert!(ended.is_some_and(|status| status.success()), "{name}: {ended:?}{}", self.logs());
    }

    /// How often a service has said something in its log.
    #[must_use]
    pub fn said(&self, name: &str, what: &str) -> usize {
        let log = std::fs::read_to_string(self.folder.join(format!("{name}.log")));
        log.map_or(0, |log| log.matches(what).count())
    }
}

/// What a process is called when the next one has its name.
fn before(name: &str) -> String {
    format!("{name}, the one before")
}
