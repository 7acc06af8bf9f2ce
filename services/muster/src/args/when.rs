//! Moments as users name them: a position, so long ago, a time of day, a date.

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};

use super::parse::duration;

/// What may be written.
const VALID: &str = "write a position as r184, so long ago as -10m, a local time as 14:03, \
    'yesterday 14:03' or '2026-11-23 14:03', or a moment as 2026-11-23T14:03:00Z";

/// A moment in history that a user names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// The end of history.
    Now,
    /// A position.
    Position(u64),
    /// So long ago, in ms.
    Ago(u64),
    /// In ms since 1970.
    At(u64),
    /// A local time: of so many days ago, or the last time it was.
    Clock(Option<u64>, NaiveTime),
    /// A local date and time.
    Calendar(NaiveDateTime),
}

/// A moment that history can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// The end of history.
    Now,
    /// A position.
    Position(u64),
    /// A time, in ms since 1970.
    Time(u64),
}

impl When {
    /// The moment by the clock and in the zone of whoever asks.
    pub(crate) fn point<Z: TimeZone>(self, now_ms: u64, zone: &Z) -> Point {
        match self {
            Self::Now => Point::Now,
            Self::Position(position) => Point::Position(position),
            Self::Ago(ms) => Point::Time(now_ms.saturating_sub(ms)),
            Self::At(ms) => Point::Time(ms),
            Self::Calendar(local) => Point::Time(utc_ms(local, zone)),
            Self::Clock(days_ago, time) => {
                let today = local_date(now_ms, zone);
                let on = |days: u64| {
                    let day = today.checked_sub_days(Days::new(days)).unwrap_or(today);
                    utc_ms(day.and_time(time), zone)
                };
                let at = days_ago.map_or_else(|| on(0), on);
                // Of today, a time that is still to come is meant as yesterday's.
                let at = if days_ago.is_none() && at > now_ms { on(1) } else { at };
                Point::Time(at)
            }
        }
    }
}

fn local_date<Z: TimeZone>(ms: u64, zone: &Z) -> NaiveDate {
    let utc = i64::try_from(ms).ok().and_then(DateTime::from_timestamp_millis);
    utc.unwrap_or_default().with_timezone(zone).date_naive()
}

/// Of a time that a change of the clocks makes twice, the first; of one that it skips, as if in UTC.
fn utc_ms<Z: TimeZone>(local: NaiveDateTime, zone: &Z) -> u64 {
    let there = zone.from_local_datetime(&local).earliest().map(|at| at.timestamp_millis());
    u64::try_from(there.unwrap_or_else(|| local.and_utc().timestamp_millis())).unwrap_or(0)
}

/// A position, with or without an r before it.
pub(super) fn position(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix('r').unwrap_or(text);
    digits.parse().map_err(|_| "write a position, as r184".to_owned())
}

pub(super) fn when(text: &str) -> Result<When, String> {
    if text == "now" {
        return Ok(When::Now);
    }
    let digits = text.strip_prefix('r').unwrap_or(text);
    if let Ok(position) = digits.parse() {
        return Ok(When::Position(position));
    }
    if let Ok(ago) = duration(text.strip_prefix('-').unwrap_or(text)) {
        return Ok(When::Ago(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)));
    }
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        let ms = u64::try_from(moment.timestamp_millis());
        return ms.map(When::At).map_err(|_| "history begins after 1970".to_owned());
    }
    local(text).ok_or_else(|| VALID.to_owned())
}

fn local(text: &str) -> Option<When> {
    let time = |text: &str| {
        let formats = ["%H:%M", "%H:%M:%S", "%H:%M:%S%.f"];
        formats.iter().find_map(|format| NaiveTime::parse_from_str(text, format).ok())
    };
    if let Some(time) = time(text) {
        return Some(When::Clock(None, time));
    }
    let (day, clock) = text.split_once([' ', 'T']).unwrap_or((text, "00:00"));
    let clock = time(clock.trim())?;
    match day {
        "today" => Some(When::Clock(Some(0), clock)),
        "yesterday" => Some(When::Clock(Some(1), clock)),
        date => Some(When::Calendar(date.parse::<NaiveDate>().ok()?.and_time(clock))),
    }
}

/// Two moments, `A..B`; a side that is left out is the beginning, or now.
pub(super) fn range(text: &str) -> Result<(When, When), String> {
    let (from, to) = text.split_once("..").ok_or("write A..B, as r163..r191 or 14:00..")?;
    let side = |text: &str, default| if text.is_empty() { Ok(default) } else { when(text) };
    Ok((side(from, When::Position(0))?, side(to, When::Now)?))
}

#[cfg(test)]
mod tests {
    use chrono::{FixedOffset, Utc};

    use super::*;

    /// 2026-11-23T14:03:11Z.
    const NOW: u64 = 1_795_442_591_000;

    #[track_caller]
    fn means(text: &str, utc: &str) {
        let zone = FixedOffset::east_opt(3_600).expect("a zone");
        let Point::Time(ms) = when(text).expect("it is valid").point(NOW, &zone) else {
            panic!("{text} is not a time")
        };
        let at = DateTime::from_timestamp_millis(i64::try_from(ms).expect("a time"));
        assert_eq!(at.map(|at| at.format("%F %T").to_string()), Some(utc.to_owned()), "{text}");
    }

    #[test]
    fn local_times_are_the_last_that_were() {
        means("15:03", "2026-11-23 14:03:00");
        means("15:04", "2026-11-22 14:04:00");
        means("02:13:05", "2026-11-23 01:13:05");
        means("yesterday 14:03", "2026-11-22 13:03:00");
        means("today 23:00", "2026-11-23 22:00:00");
        means("2026-11-20 08:00", "2026-11-20 07:00:00");
        means("2026-11-20", "2026-11-19 23:00:00");
        means("-10m", "2026-11-23 13:53:11");
        means("2h", "2026-11-23 12:03:11");
        means("2026-11-23T14:03:00Z", "2026-11-23 14:03:00");
        means("2026-11-23 15:03:11.120", "2026-11-23 14:03:11");
    }

    #[test]
    fn positions_may_have_an_r() {
        assert_eq!((when("r184"), when("184")), (Ok(When::Position(184)), Ok(When::Position(184))));
        assert_eq!(When::Position(184).point(NOW, &Utc), Point::Position(184));
        assert_eq!(range("r163..r191"), Ok((When::Position(163), When::Position(191))));
        assert_eq!(range("-1h.."), Ok((When::Ago(3_600_000), When::Now)));
        assert!(range("r163").is_err_and(|text| text.contains("A..B")));
    }

    #[test]
    fn what_is_no_moment_is_told_what_is() {
        for text in ["", "soon", "25:00", "2026-13-01", "yesterday noon", "r", "-", "10 parsecs"] {
            assert!(when(text).is_err_and(|told| told.contains("r184")), "{text}");
        }
        assert!(when("1950-01-01T00:00:00Z").is_err_and(|told| told.contains("1970")));
    }
}
