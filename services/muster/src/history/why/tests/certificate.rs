//! Why a host has the certificate that it has, or none.

use schemas::event::{CertificateFailed, CertificateIssued, CertificateOrdered};
use schemas::spec::{Route, Tls};

use super::*;

#[test]
fn a_host_without_a_certificate_says_why_and_who_declared_its_route() {
    let mut told = Told::new();
    told.command("c-deploy", "app.deploy", Some("ticket 42"), "ana");
    let route =
        |host: &str, tls| Route { host: Some(host.to_owned()), tls: Some(tls), ..Route::default() };
    let routes = vec![
        route("Shop.example", Tls::Acme { redirect: true }),
        route("new.example", Tls::Acme { redirect: true }),
        route("old.example", Tls::File { name: "old".to_owned(), redirect: true }),
    ];
    let web = WorkloadSpec { routes, ..WorkloadSpec::of_image("web:1") };
    let spec = AppSpec { name: app("shop").name, workloads: [(workload("web"), web)].into() };
    let said = Said {
        writer: Writer::Controller,
        actor: "ana",
        command: Some("c-deploy"),
        cause: Some(told.0.fold.place().position),
    };
    let deployed = told.say(&said, AppDeployed { app: app("shop"), revision: 1, spec });
    let said = Said { actor: "controller", cause: Some(deployed), ..said };
    let (host, node) = ("shop.example".to_owned(), node("n1"));
    let ordered =
        |since_ms| CertificateOrdered { host: host.clone(), node: node.clone(), since_ms };
    let begun = told.0.now_ms;
    told.say(&said, ordered(begun));
    let answer = told.why("shop/web", None);
    says(part(&answer, "Why shop.example has no certificate"), "the CA has not answered yet");
    says(part(&answer, "Which certificate new.example has"), "no gateway has begun to order it");
    says(part(&answer, "Which certificate old.example has"), "the file old.crt");

    let failed = CertificateFailed {
        host: host.clone(),
        node: node.clone(),
        since_ms: begun + 1,
        failures: 2,
        error: "403: nobody answers under shop.example".to_owned(),
        next_ms: begun + 3_600_000,
    };
    told.say(&said, failed.clone());
    for (object, at) in [("shop/web", 1), ("certificate/shop.example", 0), ("Shop.example", 0)] {
        let answer = told.why(object, None);
        let why = part(&answer, "Why shop.example has no certificate");
        says(why, "403: nobody answers");
        says(why, "failed 2 times in a row, and is tried again at");
        assert_eq!(kinds(why), ["CertificateFailed", "AppDeployed", "CommandAccepted"]);
        let root = why.root.as_ref().expect("there is a root");
        assert_eq!(
            (root.actor.as_deref(), root.reason.as_deref()),
            (Some("ana"), Some("ticket 42"))
        );
        assert!(answer.parts.len() > at, "{answer:#?}");
    }

    let day = 86_400_000;
    let (not_before_ms, not_after_ms) =
        (told.0.now_ms - 20 * day, told.0.now_ms + 10 * day + 5_000);
    let issued = CertificateIssued { host, node, since_ms: begun + 2, not_before_ms, not_after_ms };
    told.say(&said, issued);
    let answer = told.why("shop.example", None);
    assert!(answer.summary.contains("for 10 days more"), "{}", answer.summary);
    let has = part(&answer, "Which certificate shop.example has");
    says(has, "gateways serve one that is valid until");
    // A renewal that fails leaves it.
    told.0.now_ms += day;
    told.say(&said, failed);
    let answer = told.why("shop.example", None);
    let has = part(&answer, "Which certificate shop.example has");
    says(has, "403: nobody answers");
    says(has, "meanwhile gateways serve the one of r");
    says(has, "two thirds of its time are over");
    told.0.now_ms += 30 * day;
    let answer = told.why("shop.example", None);
    assert!(answer.summary.contains("over since"), "{}", answer.summary);
    says(part(&answer, "Why shop.example has no certificate"), "due to be tried again");
}
