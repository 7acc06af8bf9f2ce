//! A figure beside its yardstick: medians, spread, and whether the goal is met.

use runtime::Failure;
use serde::Serialize;

/// What a value is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    Microseconds,
    PerSecond,
    Bytes,
    BytesPerSecond,
    /// Thousandths of a core.
    CpuMillis,
}

impl Unit {
    fn show(self, value: u64) -> String {
        match self {
            Self::Microseconds if value >= 10_000_000 => {
                format!("{} s", decimal(value, 1_000_000, 1))
            }
            Self::Microseconds if value >= 1_000_000 => {
                format!("{} s", decimal(value, 1_000_000, 2))
            }
            Self::Microseconds if value >= 10_000 => format!("{} ms", value / 1_000),
            Self::Microseconds => format!("{} ms", decimal(value, 1_000, 2)),
            Self::PerSecond if value >= 10_000 => format!("{} k/s", value / 1_000),
            Self::PerSecond => format!("{value} /s"),
            Self::Bytes if value >= 1_000_000 => format!("{} MB", decimal(value, 1_000_000, 1)),
            Self::Bytes => format!("{value} B"),
            Self::BytesPerSecond => format!("{} MB/s", value / 1_000_000),
            Self::CpuMillis => format!("{} %", decimal(value, 10, 1)),
        }
    }
}

/// `value / unit`, cut to so many digits.
fn decimal(value: u64, unit: u64, digits: u32) -> String {
    let scale = 10_u64.pow(digits);
    let scaled = value.saturating_mul(scale) / unit;
    format!(
        "{}.{:0width$}",
        scaled / scale,
        scaled % scale,
        width = usize::try_from(digits).unwrap_or(1)
    )
}

/// What was measured again and again.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Spread {
    median: u64,
    min: u64,
    max: u64,
    values: Vec<u64>,
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(values: impl IntoIterator<Item = u64>) -> Self {
        let values: Vec<u64> = values.into_iter().collect();
        let mut sorted = values.clone();
        sorted.sort_unstable();
        let at = |i: usize| sorted.get(i).copied().unwrap_or(0);
        Self {
            median: at(sorted.len() / 2).midpoint(at(sorted.len().saturating_sub(1) / 2)),
            min: at(0),
            max: at(sorted.len().saturating_sub(1)),
            values,
        }
    }

    fn show(&self, unit: Unit) -> String {
        let median = unit.show(self.median);
        if self.values.len() < 2 {
            return median;
        }
        format!("{median} ({}–{})", unit.show(self.min), unit.show(self.max))
    }
}

/// The value that so many of a hundred do not exceed.
pub(crate) fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).copied().unwrap_or(0)
}

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// At most so many hundredths of the yardstick.
    TimesYardstick(u64),
    /// At least so many hundredths of the yardstick.
    AtLeastYardstick(u64),
    /// At most so much.
    AtMost(u64),
}

/// A figure.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: Unit,
    pub(crate) ours: Spread,
    /// The yardstick: in the same unit.
    pub(crate) beside: Option<(String, Spread)>,
    pub(crate) goal: Option<Goal>,
}

#[derive(Serialize)]
struct Line<'a> {
    figure: &'a str,
    what: &'a str,
    unit: Unit,
    ours: &'a Spread,
    yardstick: Option<&'a str>,
    beside: Option<&'a Spread>,
    ratio_percent: Option<u64>,
    goal: Option<String>,
    met: Option<bool>,
}

const WIDTHS: [usize; 5] = [9, 52, 31, 62, 8];

pub(crate) fn heading() {
    print_cells(
        &["figure", "measured", "median (min–max)", "beside", "ratio", "goal"].map(str::to_owned),
    );
}

fn print_cells(cells: &[String; 6]) {
    let [figure, what, ours, beside, ratio, goal] = cells;
    let [a, b, c, d, e] = WIDTHS;
    println!("{figure:a$} {what:b$} {ours:c$} {beside:d$} {ratio:e$} {goal}");
}

impl Row {
    fn ratio_percent(&self) -> Option<u64> {
        let (_, beside) = self.beside.as_ref()?;
        self.ours.median.saturating_mul(100).checked_div(beside.median)
    }

    fn met(&self) -> Option<bool> {
        Some(match self.goal? {
            Goal::AtMost(most) => self.ours.median <= most,
            Goal::TimesYardstick(percent) => self.ratio_percent()? <= percent,
            Goal::AtLeastYardstick(percent) => self.ratio_percent()? >= percent,
        })
    }

    fn goal(&self) -> Option<String> {
        Some(match self.goal? {
            Goal::AtMost(most) => format!("at most {}", self.unit.show(most)),
            Goal::TimesYardstick(percent) => format!("at most {} ×", decimal(percent, 100, 2)),
            Goal::AtLeastYardstick(percent) => format!("at least {} ×", decimal(percent, 100, 2)),
        })
    }

    pub(crate) fn print(&self, figure: &str) {
        let goal = match (self.goal(), self.met()) {
            (Some(goal), Some(true)) => format!("{goal}: met"),
            (Some(goal), _) => format!("{goal}: MISSED"),
            (None, _) => String::new(),
        };
        let beside = self.beside.as_ref();
        print_cells(&[
            figure.to_owned(),
            self.what.clone(),
            self.ours.show(self.unit),
            beside.map_or(String::new(), |(name, spread)| {
                format!("{name}: {}", spread.show(self.unit))
            }),
            self.ratio_percent()
                .map_or(String::new(), |percent| format!("{} ×", decimal(percent, 100, 2))),
            goal,
        ]);
    }

    pub(crate) fn print_json(&self, figure: &str) -> Result<(), Failure> {
        let line = Line {
            figure,
            what: &self.what,
            unit: self.unit,
            ours: &self.ours,
            yardstick: self.beside.as_ref().map(|(name, _)| name.as_str()),
            beside: self.beside.as_ref().map(|(_, spread)| spread),
            ratio_percent: self.ratio_percent(),
            goal: self.goal(),
            met: self.met(),
        };
        println!("{}", serde_json::to_string(&line)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_its_median_and_its_ends() {
        let spread = Spread::of([5, 1, 9]);
        assert_eq!((spread.median, spread.min, spread.max), (5, 1, 9));
        assert_eq!(Spread::of([4, 1]).median, 2);
        assert_eq!(spread.show(Unit::Bytes), "5 B (1 B–9 B)");
        assert_eq!(percentile(&(0..=100).collect::<Vec<_>>(), 99), 99);
    }

    #[test]
    fn a_goal_is_judged_by_medians() {
        let row = |ours, goal| Row {
            what: String::new(),
            unit: Unit::Microseconds,
            ours: Spread::of([ours]),
            beside: Some((String::new(), Spread::of([1_000]))),
            goal: Some(goal),
        };
        assert_eq!(row(1_250, Goal::TimesYardstick(125)).met(), Some(true));
        assert_eq!(row(1_260, Goal::TimesYardstick(125)).met(), Some(false));
        assert_eq!(row(1_260, Goal::AtMost(1_259)).met(), Some(false));
    }

    #[test]
    fn values_are_shown_in_readable_units() {
        let shown =
            [(430, "0.43 ms"), (12_345, "12 ms"), (1_234_567, "1.23 s"), (16_200_000, "16.2 s")];
        for (us, text) in shown {
            assert_eq!(Unit::Microseconds.show(us), text);
        }
        assert_eq!(Unit::CpuMillis.show(17), "1.7 %");
    }
}
