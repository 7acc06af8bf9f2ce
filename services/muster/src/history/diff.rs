//! `muster diff`: what changed between two moments, by object and by whoever is behind it.

mod changes;
mod tally;

use cluster::Fold;
use schemas::envelope::Header;
use schemas::event::app_entity;
use schemas::place::Place;
use schemas::read::{LogRequest, Moment};

use self::changes::{Changes, changes};
use self::tally::Tally;
use crate::args::{Diff, Format, When};
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::meter::Meter;
use crate::{look, tell};

pub(crate) async fn diff(client: &Client, diff: &Diff) -> Result<(), CliError> {
    let (from, to) = (side(client, diff.range.0).await?, client.moment(diff.range.1).await?);
    if from.place.position > to.place.position {
        let text = format!(
            "r{} is after r{}: write the earlier moment first",
            from.place.position, to.place.position
        );
        return Err(CliError::usage(text));
    }
    let (before, after) = (fold(client, &from).await?, fold(client, &to).await?);
    let changes = changes(before.state(), after.state(), diff.app.as_ref());
    let mut tally = Tally::default();
    let request = LogRequest {
        from: from.place.position + 1,
        to: Some(to.place.position),
        entity: diff.app.as_ref().map(app_entity),
        ..LogRequest::default()
    };
    if from.place.position < to.place.position {
        let mut meter = Meter::new("compared", from.place.position, to.place.position);
        look::events(client, request, |text| {
            if let Ok((header, kind)) = Header::decode(text.as_bytes()) {
                meter.at(header.position);
                tally.add(&header, &kind, text);
            }
            Ok(())
        })
        .await?;
    }
    if diff.output == Format::Json {
        let told = serde_json::json!({
            "kind": "Diff", "from": from.place, "to": to.place,
            "nodes": changes.nodes, "apps": changes.apps, "actors": tally,
        });
        look::json(&told)?;
    } else {
        print!("{}", text(&from, &to, &changes, &tally));
    }
    if diff.exit_code && !changes.is_empty() {
        return Err(CliError::new(Code::No, ""));
    }
    Ok(())
}

/// Before the first event there is nothing, and that is a side too.
async fn side(client: &Client, when: When) -> Result<Moment, CliError> {
    match when {
        When::Position(0) => Ok(Moment { place: Place::START, recorded_ms: 0 }),
        when => client.moment(when).await,
    }
}

async fn fold(client: &Client, moment: &Moment) -> Result<Fold, CliError> {
    match moment.place.position {
        0 => Ok(Fold::new()),
        position => Ok(runtime::history::at(&client.bus, position).await?),
    }
}

fn text(from: &Moment, to: &Moment, changes: &Changes, tally: &Tally) -> String {
    let side = |moment: &Moment| match moment.place.position {
        0 => "the beginning".to_owned(),
        position => format!("r{position} ({})", tell::time(moment.recorded_ms)),
    };
    let mut text = format!("From {} to {}\n", side(from), side(to));
    if changes.is_empty() {
        text.push_str("\nNothing is otherwise at the end than at the beginning.\n");
    }
    text.push_str(&changes.text());
    text.push_str(&tally.text());
    text
}
