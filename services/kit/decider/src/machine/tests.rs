//! What a leader says of its state.

use cluster::history::History;
use cluster::state::State;

use schemas::report::Mark;

use super::*;
use crate::Decision;

/// Rules of a service that has nothing to decide.
#[derive(Debug)]
struct Idle;

impl Rules for Idle {
    type Input = ();
    type Output = ();

    fn writer(&self) -> Writer {
        Writer::Health
    }

    fn input(&mut self, (): (), _: &State, _: Now) {}

    fn decide(&mut self, _: &mut State, _: Now) -> Decision {
        Decision::default()
    }

    fn reflect(&mut self, _: &mut State, _: Place, _: Now) -> Vec<()> {
        Vec::new()
    }

    fn exists(&mut self, _: &str) {}

    fn lead(&mut self, _: &State, _: Now) {}
}

/// The newest mark of one who leads, after all of a history.
fn mark(history: &History, fold: Option<Fold>) -> Option<Mark> {
    let machine = Decider::new(Idle, "health-1".to_owned(), "seed".to_owned());
    let mut machine = machine.marking(Marks::every(5));
    let from = fold.as_ref().map_or(0, |fold| fold.cursor().position);
    if let Some(fold) = fold {
        machine = machine.from_fold(fold);
    }
    let skip = usize::try_from(from).expect("small");
    let entries = history.entries.iter().skip(skip).cloned().map(Input::Entry);
    let now = Now { utc_ms: 1, mono_ms: 1 };
    let mut out = machine.on(entries.chain([Input::CaughtUp]), now);
    // It held the leadership before, and claims it again: history has that too.
    let mut history = history.clone();
    let Some(Output::Append(request)) = out.pop() else { panic!("it claims: {out:?}") };
    let term = request.term;
    let claim = LeadershipTaken { writer: Writer::Health, term, instance: "health-1".to_owned() };
    history.add(&Writer::Health, claim);
    let taken = history.entries.last().expect("there is one").clone();
    let verdict = Verdict::Published(history.fold.place());
    let answer = Answer { series: request.series, n: request.n, verdict };
    let out = machine.on([Input::Answer(answer), Input::Entry(taken)], now);
    let beat = out.into_iter().find_map(|output| match output {
        Output::Beat(beat) => Some(beat),
        _ => None,
    });
    beat.expect("it leads").mark
}

#[test]
fn a_beat_has_the_hash_of_the_state_at_the_newest_mark() {
    let mut history = History::default();
    // A sequencer and four leaders: the fifth entry is a mark.
    let at_five = history.fold.clone();
    history.node("n1", 1, 1);
    let from_nothing = mark(&history, None).expect("it passed one");
    assert_eq!(from_nothing.place, at_five.place());
    assert_eq!(from_nothing.state_hash, at_five.state().hash());
    assert_eq!(from_nothing.fold_version, cluster::FOLD_VERSION);
    assert_eq!(mark(&history, Some(at_five.clone())), None, "it passed none");
    (0..2).for_each(|i| _ = history.node(&format!("m{i}"), 1, 1));
    history.node("last", 1, 1);
    assert_eq!(mark(&history, None), mark(&history, Some(at_five)), "wherever it began");
}

#[test]
fn one_who_stands_by_says_what_its_state_is_about_once_a_second() {
    let mut history = History::default();
    history.node("n1", 1, 1);
    let machine = Decider::new(Idle, "health-2".to_owned(), "seed".to_owned());
    let mut machine = machine.marking(Marks::every(5));
    let entries = history.entries.iter().cloned().map(Input::Entry);
    let mut told = Vec::new();
    let mut hear = |outputs: Vec<Output<()>>| {
        for output in outputs {
            match output {
                Output::StandsBy(report) => told.push(report),
                Output::Append(request) => panic!("another one leads: {request:?}"),
                _ => {}
            }
        }
    };
    let at = |mono_ms| Now { utc_ms: 1, mono_ms };
    hear(machine.on([Input::Connected].into_iter().chain(entries), at(0)));
    hear(machine.on([Input::CaughtUp], at(1)));
    for ms in (250..2_500).step_by(250) {
        let beat = Beat {
            writer: Writer::Health,
            term: 1,
            instance: "health-1".to_owned(),
            place: history.fold.place(),
            mark: None,
        };
        hear(machine.on([Input::Beat(beat)], at(ms)));
    }
    assert_eq!(machine.role(), Role::Standby);
    assert_eq!(told.len(), 3, "{told:?}");
    let mut fold = Fold::new();
    let upto = |fold: &Fold| fold.place().position == told[0].mark.place.position;
    for entry in &history.entries {
        if !upto(&fold) {
            fold.push(entry).expect("it follows");
        }
    }
    assert_eq!(
        (told[0].mark.place, &told[0].mark.state_hash),
        (fold.place(), &fold.state().hash())
    );
    assert_eq!((&told[0].writer, told[0].instance.as_str()), (&Writer::Health, "health-2"));
}
