//! Receipts.

use schemas::command::Problem;
use schemas::id::CommandId;

use super::At;
use crate::state::{RECEIPTS_MAX, Receipt, State};

impl State {
    /// A command was answered.
    pub(crate) fn receipt(
        &mut self,
        at: &At<'_>,
        command: &CommandId,
        sequence: u64,
        problem: Option<Problem>,
    ) {
        if self.receipts.contains(command) {
            self.anomaly(at, format!("command {command} was answered twice"));
            return;
        }
        let receipt = Receipt { position: at.position, sequence, problem };
        self.receipts.insert(command.clone(), receipt);
        self.index.receipts.insert(at.position, command.clone());
        self.cluster.commands_read = self.cluster.commands_read.max(sequence);
        if self.receipts.len() > RECEIPTS_MAX
            && let Some((_, oldest)) = self.index.receipts.pop_first()
        {
            self.receipts.remove(&oldest);
        }
    }
}
