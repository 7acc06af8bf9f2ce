//! Values of flags, read from text; what is wrong with one is said with what would be right.

use std::time::Duration;

use schemas::event::Event;
use schemas::id::{NodeName, WorkloadName};

use super::Tail;

pub(super) fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail::All),
        lines => lines.parse().map(Tail::Lines).map_err(|_| "write a number, or all".to_owned()),
    }
}

pub(super) fn event_type(text: &str) -> Result<String, String> {
    if Event::TYPES.iter().any(|(kind, _)| *kind == text) {
        return Ok(text.to_owned());
    }
    let alike = |kind: &&str| kind.to_lowercase().contains(&text.to_lowercase());
    let near: Vec<&str> = Event::TYPES.iter().map(|(kind, _)| *kind).filter(alike).collect();
    match near.as_slice() {
        [] => Err("no such type: `muster schema` lists them".to_owned()),
        near => Err(format!("did you mean {}?", near.join(", "))),
    }
}

pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE, as disk=ssd".to_owned()),
    }
}

pub(super) fn node_prefix(text: &str) -> Result<String, String> {
    let longest = format!("{text}{}", u16::MAX);
    NodeName::new(&longest).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

pub(super) fn workload_count(text: &str) -> Result<(WorkloadName, u32), String> {
    let (name, count) = text.split_once('=').ok_or("write WORKLOAD=REPLICAS, as web=3")?;
    let name = WorkloadName::new(name).map_err(|error| error.to_string())?;
    let count = count.parse().map_err(|error| format!("{count} replicas: {error}"))?;
    Ok((name, count))
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| "write a number and a unit, as 90s".to_owned())?;
    let factor = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(format!("unknown unit {unit:?}: use ms, s, m, h or d")),
    };
    let seconds = number.checked_mul(factor).filter(|seconds| *seconds <= 100 * 365 * 86_400);
    seconds.map(Duration::from_secs).ok_or_else(|| "longer than a century".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_durations_say_what_is_wrong() {
        assert!(
            workload_count("web=3").is_ok_and(|(name, count)| name.as_str() == "web" && count == 3)
        );
        assert!(workload_count("web").is_err_and(|text| text.contains("web=3")));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        assert!(duration("5 parsecs").is_err_and(|text| text.contains("parsecs")));
        assert!(duration("18446744073709551615d").is_err());
    }

    #[test]
    fn a_misspelt_type_is_told_the_near_ones() {
        assert_eq!(event_type("ReplicaReady"), Ok("ReplicaReady".to_owned()));
        assert!(event_type("replicaready").is_err_and(|text| text.contains("ReplicaReady")));
        assert!(event_type("nonsense").is_err_and(|text| text.contains("muster schema")));
    }

    #[test]
    fn labels_have_a_key() {
        assert_eq!(key_value("disk=ssd"), Ok(("disk".to_owned(), "ssd".to_owned())));
        assert_eq!(key_value("disk="), Ok(("disk".to_owned(), String::new())));
        assert!(key_value("=ssd").is_err() && key_value("disk").is_err());
    }
}
