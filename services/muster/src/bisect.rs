//! `muster bisect`: the first event that made something true, found by halving history.

mod condition;

use cluster::Fold;
use schemas::envelope::Envelope;
use schemas::read::LogRequest;
use serde::Serialize;

use crate::args::{Bisect, Format, When};
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::{lists, look, tell};
use condition::Condition;

/// So many events are held in memory at most, to walk the last bit from place to place.
const NEAR: u64 = 20_000;

/// What was found.
#[derive(Serialize)]
struct Found {
    kind: &'static str,
    r#where: String,
    /// The last place at which it was not true.
    good: u64,
    /// The first place at which it was.
    bad: u64,
    /// The events between: one decision.
    items: Vec<lists::EventItem>,
}

pub(crate) async fn bisect(client: &Client, args: &Bisect) -> Result<(), CliError> {
    let condition = Condition::parse(&args.condition).map_err(CliError::usage)?;
    let bad = client.moment(args.bad.unwrap_or(When::Now)).await?.place.position;
    let good = match args.good {
        Some(good) => client.moment(good).await?.place.position,
        None => 0,
    };
    if good >= bad {
        return Err(CliError::usage(format!("--good, r{good}, is not before --bad, r{bad}")));
    }
    let good = fold(client, good).await?;
    ends_are(&condition, &good, &fold(client, bad).await?)?;
    let (good, bad) = narrow(client, &condition, good, bad).await?;
    let events = between(client, good.cursor().position + 1, bad).await?;
    let (good, bad) = first(&condition, good, &events)?;
    let decision: Vec<&String> = events
        .iter()
        .filter(|(position, _)| (good + 1..=bad).contains(position))
        .map(|(_, text)| text)
        .collect();
    tell_of(args, good, bad, &decision)
}

/// It must be false at the one end and true at the other, or there is nothing to find.
fn ends_are(condition: &Condition, good: &Fold, bad: &Fold) -> Result<(), CliError> {
    if condition.holds(good).map_err(CliError::usage)? {
        let text =
            format!("it was true at r{} already: take an earlier --good", good.place().position);
        return Err(CliError::new(Code::No, text));
    }
    if !condition.holds(bad).map_err(CliError::usage)? {
        let text = format!("it was not true at r{}: nothing to find", bad.place().position);
        return Err(CliError::new(Code::No, text));
    }
    Ok(())
}

/// Halves until what is left can be held in memory.
async fn narrow(
    client: &Client,
    condition: &Condition,
    mut good: Fold,
    mut bad: u64,
) -> Result<(Fold, u64), CliError> {
    while bad - good.place().position > NEAR {
        let from = good.place().position;
        let middle = fold(client, from + (bad - from) / 2).await?;
        let holds = condition.holds(&middle).map_err(CliError::usage)?;
        eprintln!("{} at r{}", if holds { "true" } else { "false" }, middle.place().position);
        if holds {
            bad = middle.place().position;
        } else {
            good = middle;
        }
    }
    Ok((good, bad))
}

/// The two places between which it became true.
fn first(
    condition: &Condition,
    mut good: Fold,
    events: &[(u64, String)],
) -> Result<(u64, u64), CliError> {
    let ends = ends(good.clone(), events)?;
    // It is true at the last of them, or this was never called.
    let (mut low, mut high) = (0, ends.len().saturating_sub(1));
    while low < high {
        let middle = low + (high - low) / 2;
        let mut fold = good.clone();
        push(&mut fold, events, ends[middle])?;
        if condition.holds(&fold).map_err(CliError::usage)? {
            high = middle;
        } else {
            (low, good) = (middle + 1, fold);
        }
    }
    let good = good.place().position;
    Ok((good, ends.get(high).copied().unwrap_or(good)))
}

/// Where the batches among the events end: only there is a state.
fn ends(mut fold: Fold, events: &[(u64, String)]) -> Result<Vec<u64>, CliError> {
    let mut ends = Vec::new();
    for (position, text) in events {
        fold.push(text.as_bytes()).map_err(|error| CliError::internal(error.to_string()))?;
        if fold.place().position == *position {
            ends.push(*position);
        }
    }
    Ok(ends)
}

/// Folds the events that come next, up to a position.
fn push(fold: &mut Fold, events: &[(u64, String)], to: u64) -> Result<(), CliError> {
    let from = fold.cursor().position + 1;
    for (_, text) in events.iter().filter(|(position, _)| (from..=to).contains(position)) {
        fold.push(text.as_bytes()).map_err(|error| CliError::internal(error.to_string()))?;
    }
    Ok(())
}

async fn fold(client: &Client, position: u64) -> Result<Fold, CliError> {
    Ok(runtime::history::at(&client.bus, position).await?)
}

/// Events by position.
async fn between(client: &Client, from: u64, to: u64) -> Result<Vec<(u64, String)>, CliError> {
    let mut events = Vec::new();
    let request = LogRequest { from, to: Some(to), ..LogRequest::default() };
    look::events(client, request, |text| {
        events.push((look::decode(text)?.header.position, text.to_owned()));
        Ok(())
    })
    .await?;
    Ok(events)
}

fn tell_of(args: &Bisect, good: u64, bad: u64, decision: &[&String]) -> Result<(), CliError> {
    if args.output == Format::Json {
        let items =
            decision.iter().map(|text| lists::event(text)).collect::<Result<Vec<_>, _>>()?;
        let (kind, r#where) = ("BisectResult", args.condition.clone());
        return look::json(&Found { kind, r#where, good, bad, items });
    }
    println!("became true at r{bad}; not yet at r{good}. What happened there:");
    let mut events = Vec::new();
    for text in decision {
        let envelope: Envelope = look::decode(text)?;
        println!("{}", tell::line(&envelope));
        events.push(envelope);
    }
    let command = events.iter().find_map(|envelope| envelope.header.correlation.clone());
    if let Some(command) = command {
        println!("it goes back to a command: muster why {command}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cluster::history::{History, node};
    use schemas::event::{NodeReturned, NodeSuspected};
    use schemas::id::Writer;

    use super::*;

    #[test]
    fn the_first_place_at_which_it_is_true_is_found_wherever_it_is() {
        let mut history = History::default();
        history.node("n1", 2, 4).node("n2", 2, 4);
        let good = history.fold.clone();
        let silent_ms = 3_000;
        for _ in 0..5 {
            history.add(&Writer::Health, NodeSuspected { node: node("n1"), silent_ms });
            history.add(&Writer::Health, NodeReturned { node: node("n1"), silent_ms });
        }
        let both = vec![
            NodeSuspected { node: node("n2"), silent_ms }.into(),
            NodeSuspected { node: node("n1"), silent_ms }.into(),
        ];
        history.batch(&Writer::Health, both);
        let bad = history.fold.place().position;
        for _ in 0..3 {
            history.add(&Writer::Health, NodeSuspected { node: node("n1"), silent_ms });
        }
        let from = usize::try_from(good.place().position).expect("it is short");
        let events: Vec<(u64, String)> = (good.place().position + 1..)
            .zip(&history.entries[from..])
            .map(|(position, bytes)| (position, String::from_utf8_lossy(bytes).into_owned()))
            .collect();
        let condition =
            Condition::parse("nodes.exists(n, n.node == 'n2' && n.state == 'suspected')");
        let condition = condition.expect("CEL");
        // However far the bad end lies beyond, and though its batch began one event earlier.
        for end in usize::try_from(bad).expect("it is short") - from..=events.len() {
            let found = first(&condition, good.clone(), &events[..end]).expect("it is found");
            assert_eq!(found, (bad - 2, bad));
        }
    }
}
