//! Events as trees: each under what came right before it in the chain of causes, and the command at
//! the root of all that goes back to it.

use std::collections::BTreeMap;

use schemas::envelope::Envelope;
use schemas::event::Event;

/// An event in its tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    pub(crate) envelope: &'a Envelope,
    /// The lines that lead to it.
    pub(crate) lines: String,
    /// The event it hangs under.
    pub(crate) under: Option<u64>,
}

/// The events, tree by tree. Roots and branches are in order of their positions.
pub(crate) fn rows(events: &[Envelope]) -> Vec<Row<'_>> {
    let by_position: BTreeMap<u64, &Envelope> =
        events.iter().map(|event| (event.header.position, event)).collect();
    let receipts: BTreeMap<_, u64> = by_position
        .values()
        .filter(|event| matches!(event.event, Event::CommandAccepted(_)))
        .filter_map(|event| Some((event.header.correlation.as_ref()?, event.header.position)))
        .collect();
    let parent = |event: &Envelope| {
        let header = &event.header;
        let cause = header.causation.filter(|cause| by_position.contains_key(cause));
        // What goes back to a command hangs under its receipt where its cause is not among these.
        let receipt = || header.correlation.as_ref().and_then(|id| receipts.get(id).copied());
        cause.or_else(receipt).filter(|parent| *parent < header.position)
    };
    let mut children: BTreeMap<Option<u64>, Vec<u64>> = BTreeMap::new();
    for (position, event) in &by_position {
        children.entry(parent(event)).or_default().push(*position);
    }
    let of = |parent: Option<u64>| children.get(&parent).map_or(&[][..], Vec::as_slice);
    // The deepest branch may be long: a stack of its own, and the last is taken first.
    let mut rows = Vec::with_capacity(by_position.len());
    let mut next: Vec<(u64, Option<u64>, String, String)> = Vec::new();
    for root in of(None).iter().rev() {
        next.push((*root, None, String::new(), String::new()));
    }
    while let Some((position, under, lines, below)) = next.pop() {
        let Some(envelope) = by_position.get(&position).copied() else { continue };
        rows.push(Row { envelope, lines, under });
        let branches = of(Some(position));
        for (i, branch) in branches.iter().enumerate().rev() {
            let (turn, on) =
                if i + 1 == branches.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            next.push((*branch, Some(position), format!("{below}{turn}"), format!("{below}{on}")));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use cluster::history::{History, app, node};
    use schemas::event::{AppConverged, AppDeleteStarted, CommandAccepted, NodeCordoned};
    use schemas::id::{CommandId, Writer};

    use super::*;

    #[test]
    fn what_follows_hangs_under_its_cause_and_that_under_the_command() {
        let id = CommandId::new("c1").expect("an id");
        let mut history = History::default();
        let accepted = CommandAccepted {
            command: id.clone(),
            verb: "app.delete".to_owned(),
            sequence: 1,
            proved: true,
            reason: None,
        };
        let started = AppDeleteStarted { app: app("shop") };
        let events = vec![accepted.into(), started.into()];
        history.caused(&Writer::Controller, events, Some(id.clone()));
        let other = NodeCordoned { node: node("n1"), drain: false };
        history.add(&Writer::Controller, other);
        let last = AppConverged { app: app("shop"), revision: 1, failed: Vec::new() };
        history.caused(&Writer::Controller, vec![last.into()], Some(id));
        let mut events: Vec<Envelope> = history.entries[history.entries.len() - 4..]
            .iter()
            .map(|entry| Envelope::decode(entry).expect("it decodes"))
            .collect();
        let first = events[0].header.position;
        events[3].header.causation = Some(first + 1);
        let told: Vec<(u64, String, Option<u64>)> = rows(&events)
            .into_iter()
            .map(|row| (row.envelope.header.position - first, row.lines, row.under))
            .collect();
        assert_eq!(
            told,
            [
                (0, String::new(), None),
                (1, "└─ ".to_owned(), Some(first)),
                (3, "   └─ ".to_owned(), Some(first + 1)),
                (2, String::new(), None),
            ]
        );
        // Without its cause among them it hangs under the command.
        let told = [events[0].clone(), events[3].clone()];
        assert_eq!(rows(&told)[1].under, Some(first));
    }
}
