//! How a rollout that is held shares the traffic of a workload out.

use cluster::State;
use cluster::state::Workload;

use super::Endpoint;

/// Gives endpoints the weight that their spec has in a rollout. Where one of the two kinds has nobody
/// who is ready, the other gets everything; but for what gets nothing before it is promoted.
pub(crate) fn shared(
    state: &State,
    workload: &Workload,
    endpoints: Vec<Endpoint>,
) -> Vec<Endpoint> {
    let Some(held) = workload.held() else { return endpoints };
    let is_new = |endpoint: &Endpoint| {
        state.replicas.get(&endpoint.replica).is_some_and(|replica| replica.spec == workload.spec)
    };
    let (new, old): (Vec<Endpoint>, Vec<Endpoint>) = endpoints.into_iter().partition(is_new);
    match held.weight_percent.min(100) {
        0 => old,
        100 if !new.is_empty() => new,
        _ if new.is_empty() => old,
        _ if old.is_empty() => new,
        percent => {
            let (to_new, to_old) = weights(percent, new.len(), old.len());
            let of = |weight: u32| move |endpoint: Endpoint| Endpoint { weight, ..endpoint };
            let mut all: Vec<Endpoint> = new.into_iter().map(of(to_new)).collect();
            all.extend(old.into_iter().map(of(to_old)));
            all.sort();
            all
        }
    }
}

/// The weights of so many new endpoints and so many old ones, of which the new get so many percent.
fn weights(percent: u32, new: usize, old: usize) -> (u32, u32) {
    let number = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let to_new = percent.saturating_mul(number(old));
    let to_old = (100 - percent).saturating_mul(number(new));
    let common = divisor(to_new, to_old).max(1);
    ((to_new / common).max(1), (to_old / common).max(1))
}

/// The greatest common divisor.
fn divisor(one: u32, other: u32) -> u32 {
    if other == 0 { one } else { divisor(other, one % other) }
}

#[cfg(test)]
mod tests {
    use cluster::history::{History, app, node, replica, workload};
    use schemas::event::{
        AppConverged, AppDeployed, Endpoint as Reached, ReplicaReady, ReplicasPlaced,
        ReplicasRequested, RequestedReplica, RolloutPromoted, RunStarted,
    };
    use schemas::id::Writer;
    use schemas::spec::{AppSpec, Port, Protocol, Step, Update, UpdateStrategy, WorkloadSpec};

    use super::super::Table;
    use super::*;

    #[test]
    fn the_share_does_not_depend_on_how_many_there_are() {
        for (percent, new, old) in [(10, 1, 4), (50, 2, 4), (33, 1, 3), (1, 1, 99), (90, 5, 1)] {
            let (to_new, to_old) = weights(percent, new, old);
            let (new, old) =
                (u32::try_from(new).expect("small"), u32::try_from(old).expect("small"));
            let (all_new, all_old) = (to_new * new, to_old * old);
            assert_eq!(all_new * (100 - percent), all_old * percent, "{percent} % of {new}, {old}");
        }
        assert_eq!(weights(50, 3, 3), (1, 1));
    }

    fn web(image: &str, strategy: &UpdateStrategy) -> WorkloadSpec {
        let port = Port {
            container: 80,
            published: Some(80),
            host: None,
            protocol: Protocol::Tcp,
            app: Default::default(),
        };
        let update = Update { strategy: strategy.clone(), ..Update::default() };
        WorkloadSpec { ports: vec![port], update, ..WorkloadSpec::of_image(image) }
    }

    /// Declares an image, and has replicas of it that are ready at these ports.
    fn declare(history: &mut History, revision: u64, spec: &WorkloadSpec, ports: &[u16]) {
        let (key, name, on) = (app("shop"), workload("web"), node("n1"));
        let workloads = [(name.clone(), spec.clone())].into();
        let declared = AppSpec { name: key.name.clone(), workloads };
        let event = AppDeployed { app: key.clone(), revision, spec: declared };
        history.add(&Writer::Controller, event);
        for port in ports {
            let id = replica(&format!("shop-web-{port}"));
            let one = RequestedReplica { id: id.clone(), replaces: None, node: None };
            let requested = ReplicasRequested {
                app: key.clone(),
                workload: name.clone(),
                revision,
                generation: 0,
                spec: spec.digest(),
                replicas: vec![one],
            };
            history.add(&Writer::Controller, requested);
            let placed = ReplicasPlaced {
                node: on.clone(),
                replicas: vec![id.clone()],
                chosen: String::new(),
                passed_over: Vec::new(),
            };
            history.add(&Writer::Scheduler, placed);
            let (protocol, address) = (Protocol::Tcp, "127.0.0.1".to_owned());
            let endpoints = vec![Reached { container: 80, protocol, address, port: *port }];
            let agent = Writer::Agent(on.clone());
            let (run, container) = (1, "c".to_owned());
            let replica = id.clone();
            history.add(&agent, RunStarted { replica, run, container, endpoints, inside: None });
            history.add(&agent, ReplicaReady { replica: id, run });
        }
    }

    /// The ports that the table leads to, each with its weight.
    fn led(history: &History) -> Vec<(u16, u32)> {
        let table = Table::of(history.fold.state(), history.fold.place());
        let endpoints = table.routes.into_values().flat_map(|route| route.endpoints);
        endpoints.map(|endpoint| (endpoint.port, endpoint.weight)).collect()
    }

    fn under_way(strategy: &UpdateStrategy) -> History {
        let mut history = History::default();
        history.node("n1", 4, 4);
        declare(&mut history, 1, &web("web:1", strategy), &[1, 2, 3]);
        history.add(
            &Writer::Controller,
            AppConverged { app: app("shop"), revision: 1, failed: Vec::new() },
        );
        assert_eq!(led(&history), [(1, 1), (2, 1), (3, 1)]);
        declare(&mut history, 2, &web("web:2", strategy), &[4]);
        history
    }

    fn promote(history: &mut History) {
        let (app, workload) = (app("shop"), workload("web"));
        let event = RolloutPromoted { app, workload, revision: 2, measured: None };
        history.add(&Writer::Controller, event);
    }

    #[test]
    fn a_canary_gets_its_share_until_it_is_promoted() {
        let steps = vec![Step { weight_percent: 10, hold_ms: None }];
        let mut history = under_way(&UpdateStrategy::Canary { steps });
        assert_eq!(led(&history), [(1, 3), (2, 3), (3, 3), (4, 1)]);
        promote(&mut history);
        assert_eq!(led(&history), [(1, 1), (2, 1), (3, 1), (4, 1)]);
    }

    #[test]
    fn what_stands_by_gets_nothing_until_it_is_promoted() {
        let mut history = under_way(&UpdateStrategy::BlueGreen { promote_after_ms: None });
        assert_eq!(led(&history), [(1, 1), (2, 1), (3, 1)]);
        promote(&mut history);
        assert_eq!(led(&history).last(), Some(&(4, 1)));
    }
}
