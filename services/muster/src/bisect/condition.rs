//! A condition on the state, in CEL.

use cel::{Context, ExecutionError, Program, Value};
use cluster::{Fold, view};
use schemas::read::{StatePage, StateRequest};

use crate::lists;

/// An expression that is true or false of a state.
#[derive(Debug)]
pub(super) struct Condition {
    program: Program,
    text: String,
}

impl Condition {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// When it is no expression; says where.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let program = Program::compile(text).map_err(|error| format!("in {text:?}: {error}"))?;
        Ok(Self { program, text: text.to_owned() })
    }

    /// Whether it is true of a state.
    ///
    /// # Errors
    ///
    /// When it cannot be told, or is something else than true or false.
    pub(super) fn holds(&self, fold: &Fold) -> Result<bool, String> {
        let at = fold.place().position;
        let state = lists::state(&whole(fold));
        let mut context = Context::default();
        for name in ["apps", "nodes", "replicas"] {
            context.add_variable(name, &state[name]).map_err(|error| error.to_string())?;
        }
        context.add_variable("position", at).map_err(|error| error.to_string())?;
        match self.program.execute(&context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => {
                Err(format!("{:?} is {other:?} at r{at}, neither true nor false", self.text))
            }
            Err(ExecutionError::NoSuchKey(key)) => Err(format!(
                "at r{at} there is something without `{key}`: write has(x.{key}) && … before it"
            )),
            Err(error) => Err(format!("at r{at}: {error}")),
        }
    }
}

/// The whole state: what `muster state` prints is made from it.
fn whole(fold: &Fold) -> StatePage {
    let mut request = StateRequest::default();
    let mut page = view::page(fold.state(), fold.place(), &request);
    while let Some(next) = page.next.take() {
        request.after = Some(next);
        let more = view::page(fold.state(), fold.place(), &request);
        page.replicas.extend(more.replicas);
        page.next = more.next;
    }
    page
}

#[cfg(test)]
mod tests {
    use cluster::history::{History, node};
    use schemas::event::NodeSuspected;
    use schemas::id::Writer;

    use super::*;

    #[test]
    fn a_condition_is_true_or_false_of_a_state() {
        let mut history = History::default();
        history.node("n1", 2, 4).node("n2", 2, 4);
        let suspected = Condition::parse("nodes.exists(n, n.state == 'suspected')").expect("CEL");
        assert_eq!(suspected.holds(&history.fold), Ok(false));
        history.add(&Writer::Health, NodeSuspected { node: node("n2"), silent_ms: 3_000 });
        assert_eq!(suspected.holds(&history.fold), Ok(true));
        let small =
            Condition::parse("size(apps) == 0 && nodes.all(n, n.capacity.cpu_milli == 2000)");
        assert_eq!(small.expect("CEL").holds(&history.fold), Ok(true));
    }

    #[test]
    fn what_is_wrong_with_it_is_said() {
        let history = History::default();
        assert!(Condition::parse("nodes.exists(").is_err());
        let number = Condition::parse("size(nodes)").expect("CEL").holds(&history.fold);
        assert!(number.is_err_and(|text| text.contains("neither true nor false")));
        let mut history = History::default();
        history.node("n1", 2, 4);
        let missing = Condition::parse("nodes[0].color == 'red'").expect("CEL");
        let text = missing.holds(&history.fold).expect_err("there is no such field");
        assert!(text.contains("has(x.color)"), "{text}");
        let unknown = Condition::parse("pods.size() > 0").expect("CEL").holds(&history.fold);
        assert!(unknown.is_err_and(|text| text.contains("pods")));
    }
}
