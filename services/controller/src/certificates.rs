//! What gateways say of the certificates that they order becomes a part of history, each step once.
//!
//! Gateways settle among themselves who orders (decision 13), and nothing is decided by what is kept here: it is
//! there to be asked about.

use std::collections::BTreeMap;

use cluster::State;
use cluster::state::{CERTIFICATES_MAX, Cause};
use schemas::event::{CertificateFailed, CertificateIssued, CertificateOrdered, Event};
use schemas::id::NodeName;
use schemas::report::{GatewayReport, Ordered};
use schemas::tls::Phase;

/// The longest name of a host, in bytes: RFC 1035, section 2.3.4.
const HOST_MAX: usize = 253;

/// What gateways said that history does not have yet, by host.
#[derive(Debug, Default)]
pub struct Certificates(BTreeMap<String, (NodeName, Ordered)>);

impl Certificates {
    /// A gateway says how its orders stand.
    pub fn heard(&mut self, report: &GatewayReport, state: &State) {
        let oldest = oldest_of_many(state);
        for one in report.ordered.iter().filter(|one| is_host(&one.host)) {
            let newer = self.0.get(&one.host).is_none_or(|(_, known)| {
                (known.since_ms, rank(known.phase)) < (one.since_ms, rank(one.phase))
            });
            let room = self.0.len() < CERTIFICATES_MAX || self.0.contains_key(&one.host);
            if newer && room && is_news(one, state, oldest) {
                self.0.insert(one.host.clone(), (report.node.clone(), one.clone()));
            }
        }
    }

    /// What should be stated, and what each goes back to: who declared the route.
    pub fn news(&mut self, state: &State) -> Vec<(Event, Cause)> {
        let oldest = oldest_of_many(state);
        self.0.retain(|_, (_, one)| is_news(one, state, oldest));
        let stated =
            self.0.values().map(|(node, one)| (stated(node, one), asked_by(state, &one.host)));
        stated.collect()
    }
}

/// What history forgets next: it has as many hosts as it keeps.
fn oldest_of_many(state: &State) -> Option<(u64, &str)> {
    let known = state.certificates.iter().map(|(host, known)| (known.since_ms, host.as_str()));
    known.min().filter(|_| state.certificates.len() >= CERTIFICATES_MAX)
}

/// Whether history has nothing as new of a host, and would not forget it at once.
fn is_news(one: &Ordered, state: &State, oldest: Option<(u64, &str)>) -> bool {
    match state.certificates.get(&one.host) {
        Some(known) => (known.since_ms, rank(known.phase)) < (one.since_ms, rank(one.phase)),
        None => oldest.is_none_or(|oldest| oldest < (one.since_ms, one.host.as_str())),
    }
}

/// Of two steps at the same moment the one that comes later.
fn rank(phase: Phase) -> u8 {
    match phase {
        Phase::Ordering => 0,
        Phase::Failed | Phase::Done => 1,
    }
}

fn is_host(host: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let labels = || host.split('.');
    host.len() <= HOST_MAX
        && labels().all(|label| !label.is_empty() && label.bytes().all(is_of_name))
}

fn stated(node: &NodeName, one: &Ordered) -> Event {
    let (host, node, since_ms) = (one.host.clone(), node.clone(), one.since_ms);
    match one.phase {
        Phase::Ordering => CertificateOrdered { host, node, since_ms }.into(),
        Phase::Done => {
            let (not_before_ms, not_after_ms) = one.valid_ms.unwrap_or_default();
            CertificateIssued { host, node, since_ms, not_before_ms, not_after_ms }.into()
        }
        Phase::Failed => CertificateFailed {
            host,
            node,
            since_ms,
            failures: one.failures,
            error: one.error.clone().unwrap_or_default(),
            next_ms: one.next_ms,
        }
        .into(),
    }
}

/// The declaration of the route that a certificate is for. None of now: it is gone again.
fn asked_by(state: &State, host: &str) -> Cause {
    let app = state.apps.iter().find(|(_, app)| {
        let routes = app.workloads.values().flat_map(|workload| &workload.conduct.routes);
        let mut hosts = routes.filter_map(|route| route.host.as_deref());
        hosts.any(|of_route| of_route.eq_ignore_ascii_case(host))
    });
    app.map(|(_, app)| app.cause.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use cluster::history::{History, app, node, workload};
    use schemas::event::AppDeployed;
    use schemas::id::Writer;
    use schemas::place::Place;
    use schemas::report::Standing;
    use schemas::spec::{AppSpec, Route, Tls, WorkloadSpec};

    use super::*;

    fn one(phase: Phase, since_ms: u64) -> Ordered {
        let failed = phase == Phase::Failed;
        Ordered {
            host: "shop.example".to_owned(),
            phase,
            since_ms,
            failures: u32::from(failed),
            error: failed.then(|| "nobody answers".to_owned()),
            next_ms: 9_000,
            valid_ms: (phase == Phase::Done).then_some((1_000, 50_000)),
        }
    }

    fn report(name: &str, ordered: Vec<Ordered>) -> GatewayReport {
        GatewayReport {
            node: node(name),
            instance: name.to_owned(),
            standing: Standing::Serves,
            place: Place::START,
            open: Vec::new(),
            mark: None,
            ordered,
        }
    }

    fn declared() -> History {
        let route = Route {
            host: Some("Shop.example".to_owned()),
            tls: Some(Tls::Acme { redirect: true }),
            ..Route::default()
        };
        let web = WorkloadSpec { routes: vec![route], ..WorkloadSpec::of_image("web:1") };
        let spec = AppSpec { name: app("shop").name, workloads: [(workload("web"), web)].into() };
        let mut history = History::default();
        history.add(&Writer::Controller, AppDeployed { app: app("shop"), revision: 1, spec });
        history
    }

    /// States what is news: which types, and whether each goes back to the declaration.
    fn states(history: &mut History, certificates: &mut Certificates) -> Vec<&'static str> {
        let news = certificates.news(history.fold.state());
        let declared = history.fold.state().apps.get(&app("shop")).map(|app| app.cause.clone());
        news.into_iter()
            .map(|(event, cause)| {
                assert_eq!(Some(cause), declared);
                let kind = event.kind();
                history.add(&Writer::Controller, event);
                kind
            })
            .collect()
    }

    #[test]
    fn each_step_of_an_order_is_stated_once_whoever_says_it_and_how_often() {
        let (mut history, mut certificates) = (declared(), Certificates::default());
        let steps = [
            ("n1", one(Phase::Ordering, 10), vec!["CertificateOrdered"]),
            ("n1", one(Phase::Ordering, 10), vec![]),
            // Within the same millisecond.
            ("n1", one(Phase::Failed, 10), vec!["CertificateFailed"]),
            ("n2", one(Phase::Ordering, 20), vec!["CertificateOrdered"]),
            // What the first one says until it hears of that.
            ("n1", one(Phase::Failed, 10), vec![]),
            ("n2", one(Phase::Done, 30), vec!["CertificateIssued"]),
            ("n2", one(Phase::Done, 30), vec![]),
        ];
        for (name, said, expected) in steps {
            certificates.heard(&report(name, vec![said.clone()]), history.fold.state());
            assert_eq!(states(&mut history, &mut certificates), expected, "{name}: {said:?}");
            assert_eq!(certificates.0.len(), expected.len());
        }
        let known = history.fold.state().certificates.get("shop.example").expect("it is known");
        assert_eq!((known.node.clone(), known.not_after_ms), (node("n2"), 50_000));
        // A renewal that fails takes nothing away.
        let said = report("n2", vec![one(Phase::Ordering, 40), one(Phase::Failed, 41)]);
        certificates.heard(&said, history.fold.state());
        assert_eq!(states(&mut history, &mut certificates), ["CertificateFailed"]);
        let known = history.fold.state().certificates.get("shop.example").expect("it is known");
        assert_eq!((known.phase, known.not_after_ms), (Phase::Failed, 50_000));
    }

    #[test]
    fn what_history_would_forget_at_once_is_not_stated() {
        let (mut history, mut certificates) = (declared(), Certificates::default());
        for number in 0..CERTIFICATES_MAX {
            let (host, node) = (format!("h{number}.example"), node("n1"));
            history.add(&Writer::Controller, CertificateOrdered { host, node, since_ms: 100 });
        }
        let steps = [(99, vec![]), (101, vec!["CertificateOrdered"]), (101, vec![]), (99, vec![])];
        for (since_ms, expected) in steps {
            let said = report("n2", vec![one(Phase::Ordering, since_ms)]);
            certificates.heard(&said, history.fold.state());
            assert_eq!(states(&mut history, &mut certificates), expected, "{since_ms}");
            assert_eq!(certificates.0.len(), expected.len());
        }
    }

    #[test]
    fn what_is_no_host_is_not_heard() {
        let (history, mut certificates) = (declared(), Certificates::default());
        for host in ["", "a b", "*.example", "shop..example", "shop.>", &"a".repeat(254)] {
            let said = Ordered { host: host.to_owned(), ..one(Phase::Ordering, 1) };
            certificates.heard(&report("n1", vec![said]), history.fold.state());
            assert!(certificates.news(history.fold.state()).is_empty(), "{host}");
        }
    }
}
