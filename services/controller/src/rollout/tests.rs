//! The way back.

use cluster::history::{History, app, workload};
use cluster::state::Symptom;
use schemas::event::{AppConverged, Evidence};
use schemas::id::Writer;
use schemas::spec::{AppSpec, WorkloadSpec};

use super::*;

#[test]
fn what_is_long_is_cut_to_its_last_lines() {
    let mut history = History::default();
    let key = app("shop");
    for (revision, image) in [(1, "web:1"), (2, "web:2")] {
        let workloads = [(workload("web"), WorkloadSpec::of_image(image))].into();
        let spec = AppSpec { name: key.name.clone(), workloads };
        history.add(&Writer::Controller, AppDeployed { app: key.clone(), revision, spec });
        if revision == 1 {
            history.add(
                &Writer::Controller,
                AppConverged { app: key.clone(), revision, failed: Vec::new() },
            );
        }
    }
    let mut shop = history.fold.state().apps.get(&key).expect("it is there").clone();
    let lines: Vec<String> = (0..20).map(|i| format!("{i:0>400}")).collect();
    let evidence = Evidence { last_lines: lines.clone(), ..Evidence::default() };
    let id = ReplicaId::derive(&key, &workload("web"), 1);
    let web = shop.workloads.get_mut(&workload("web")).expect("it is there");
    web.symptom = Some(Symptom { replica: id.clone(), position: 7, evidence });
    let failure = Failure {
        workload: workload("web"),
        reason: "it does not start".to_owned(),
        replica: None,
        measured: None,
    };
    let [(failed, cause), (declared, _)] = back(&key, &shop, failure).expect("there is one");
    let Event::RolloutFailed(failed) = failed else { panic!("{failed:?}") };
    let kept = failed.evidence.expect("there is some").last_lines;
    assert_eq!((kept.as_slice(), cause.position), (&lines[10..], 7));
    assert_eq!((failed.replica, failed.evidence_at), (Some(id), Some(7)));
    let Event::AppDeployed(declared) = declared else { panic!("{declared:?}") };
    assert_eq!((declared.revision, &declared.spec), (3, &shop.good.expect("there is one").spec));
}
