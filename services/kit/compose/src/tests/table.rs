//! The table and the code say the same: every row is tried.

use std::collections::BTreeSet;

use crate::support::{Scope, Verdict, markdown, scopes};

use super::{files, warnings};

/// A file in which `HOLE` is inside a mapping of the scope.
fn file(scope: &Scope) -> String {
    let service = |says: &str| {
        let says = if says == "HOLE" { says.to_owned() } else { format!("image: a, {says}") };
        format!(
            "{{services: {{web: {{{says}}}, db: {{image: a}}}}, \
             volumes: {{data: }}, configs: {{site: {{content: x}}}}}}"
        )
    };
    match scope.path {
        "" => "{HOLE}".to_owned(),
        "services.*" => service("HOLE"),
        "services.*.env_file[]" => service("env_file: [{HOLE}]"),
        "services.*.ports[]" => service("ports: [{HOLE}]"),
        "services.*.volumes[]" => service("volumes: [{HOLE}]"),
        "services.*.volumes[].bind" => {
            service("volumes: [{type: bind, source: ./a, target: /a, bind: {HOLE}}]")
        }
        "services.*.volumes[].volume" => {
            service("volumes: [{type: volume, source: data, target: /a, volume: {HOLE}}]")
        }
        "services.*.volumes[].tmpfs" => {
            service("volumes: [{type: tmpfs, target: /a, tmpfs: {HOLE}}]")
        }
        "services.*.configs[]" => service("configs: [{HOLE}]"),
        "services.*.healthcheck" => service("healthcheck: {HOLE}"),
        "services.*.depends_on.*" => service("depends_on: {db: {HOLE}}"),
        "services.*.deploy" => service("deploy: {HOLE}"),
        "services.*.deploy.resources" => service("deploy: {resources: {HOLE}}"),
        "services.*.deploy.resources.limits" => service("deploy: {resources: {limits: {HOLE}}}"),
        "services.*.deploy.resources.reservations" => {
            service("deploy: {resources: {reservations: {HOLE}}}")
        }
        "services.*.deploy.restart_policy" => service("deploy: {restart_policy: {HOLE}}"),
        "services.*.deploy.placement" => service("deploy: {placement: {HOLE}}"),
        "services.*.deploy.placement.preferences[]" => {
            service("deploy: {placement: {preferences: [{HOLE}]}}")
        }
        "services.*.deploy.update_config" => service("deploy: {update_config: {HOLE}}"),
        "services.*.x-muster" => service("x-muster: {HOLE}"),
        "services.*.x-muster.pre_deploy" => service("x-muster: {pre_deploy: {HOLE}}"),
        "services.*.x-muster.post_deploy" => service("x-muster: {post_deploy: {HOLE}}"),
        "services.*.x-muster.autoscale" => service("x-muster: {autoscale: {HOLE}}"),
        "services.*.x-muster.routes[]" => service("x-muster: {routes: [{HOLE}]}"),
        "services.*.x-muster.routes[].tls" => service("x-muster: {routes: [{tls: {HOLE}}]}"),
        "services.*.x-muster.update" => service("x-muster: {update: {HOLE}}"),
        "services.*.x-muster.update.steps[]" => {
            service("x-muster: {update: {strategy: canary, steps: [{HOLE}]}}")
        }
        "services.*.x-muster.probe" => service("x-muster: {probe: {HOLE}}"),
        "services.*.x-muster.probe.http" => service("x-muster: {probe: {http: {HOLE}}}"),
        "services.*.x-muster.probe.tcp" => service("x-muster: {probe: {tcp: {HOLE}}}"),
        "services.*.x-muster.probe.exec" => service("x-muster: {probe: {exec: {HOLE}}}"),
        "volumes.*" => "{services: {web: {image: a}}, volumes: {data: {HOLE}}}".to_owned(),
        "configs.*" => "{services: {web: {image: a}}, configs: {site: {HOLE}}}".to_owned(),
        "networks.*" => "{services: {web: {image: a}}, networks: {front: {HOLE}}}".to_owned(),
        path => panic!("say how a file with {path} looks"),
    }
}

/// What the mapping needs besides, so that nothing else is wrong with it.
fn besides(path: &str) -> &'static str {
    match path {
        "" => "services: {web: {image: a}}",
        "services.*" => "image: a",
        "services.*.deploy.placement.preferences[]" => "spread: node.labels.a",
        "services.*.env_file[]" => "path: web.env",
        "services.*.ports[]" => "target: 80",
        "services.*.volumes[]" => "type: volume, source: data, target: /a",
        "services.*.configs[]" => "source: site",
        "services.*.healthcheck" => "test: x",
        "services.*.x-muster.pre_deploy" | "services.*.x-muster.post_deploy" => "command: x",
        "services.*.x-muster.autoscale" => "min: 1, max: 3, cpu_percent: 50",
        "services.*.x-muster.routes[].tls" => "certificate: shop",
        "services.*.x-muster.update.steps[]" => "weight: 10",
        "services.*.x-muster.probe" => "tcp: {port: 80}",
        "services.*.x-muster.probe.http" => "port: 80",
        "configs.*" => "content: x",
        _ => "",
    }
}

fn filled(scope: &Scope, besides: &str, key: &str, value: &str) -> String {
    let comma = if besides.is_empty() { "" } else { ", " };
    file(scope).replace("HOLE", &format!("{besides}{comma}{key}: {value}"))
}

#[test]
fn every_ignored_key_warns() {
    for scope in scopes() {
        for row in scope.rows.iter().filter(|row| row.verdict == Verdict::Ignored) {
            // Lists and mappings are judged by their key too; `links` alone is looked into.
            let text = filled(scope, besides(scope.path), row.key, "[something]");
            let converted = files(&[&text]).unwrap_or_else(|e| panic!("{e}\n{text}"));
            // Of networks it is said once, for all their keys.
            let key = if scope.path == "networks.*" { "networks" } else { row.key };
            let said = warnings(&converted);
            let wanted = format!("`{key}` is ignored");
            assert!(said.len() == 1 && said[0].contains(&wanted), "{text}: {said:?}");
            assert!(scope.path == "networks.*" || !row.note.is_empty(), "{key}: say why");
        }
    }
}

#[test]
fn every_refused_key_is_an_error_that_says_what_to_do() {
    for scope in scopes() {
        for row in scope.rows.iter().filter(|row| row.verdict == Verdict::Refused) {
            let text = filled(scope, besides(scope.path), row.key, "something");
            let invalid = files(&[&text]).expect_err(&text);
            let wanted = format!("`{}` is refused: {}", row.key, row.note);
            let said = invalid.to_string();
            assert!(said.contains(&wanted) && !row.note.is_empty(), "{text}: {said}");
        }
    }
}

#[test]
fn what_asks_for_nothing_passes_without_a_word() {
    for scope in scopes() {
        for row in scope.rows.iter().filter(|row| row.verdict != Verdict::Honoured) {
            for value in ["null", "false", "''"].iter().chain(row.harmless) {
                let value = if *value == "::" { "'::'" } else { value };
                let text = filled(scope, besides(scope.path), row.key, value);
                let invalid = files(&[&text]).map(|converted| {
                    let said = warnings(&converted);
                    said.into_iter().filter(|said| said.contains(row.key)).collect::<Vec<_>>()
                });
                let nothing = invalid.as_ref().is_ok_and(Vec::is_empty);
                let of_networks = scope.path == "networks.*";
                assert!(nothing || of_networks, "{text}: {invalid:?}");
            }
        }
    }
}

#[test]
fn every_honoured_key_does_something() {
    for scope in scopes() {
        for row in scope.rows.iter().filter(|row| row.verdict == Verdict::Honoured) {
            if super::honoured::ELSEWHERE.contains(&(scope.path, row.key)) {
                continue;
            }
            let found = super::honoured::SAMPLES
                .iter()
                .find(|(path, key, ..)| *path == scope.path && *key == row.key);
            let Some((_, key, beside, value)) = found else {
                panic!("give a sample of `{}` in {:?}", row.key, scope.path)
            };
            let text = filled(scope, beside, key, value);
            let with = files(&[&text]).unwrap_or_else(|invalid| panic!("{invalid}\n{text}"));
            assert_eq!(warnings(&with), Vec::<String>::new(), "{text}");
            if let Ok(without) = files(&[&file(scope).replace("HOLE", beside)]) {
                let same = with.app == without.app && with.contents == without.contents;
                assert!(!same, "`{key}` changes nothing in {text}");
            }
        }
    }
}

#[test]
fn keys_stand_once_and_the_page_has_all_of_them() {
    let page = markdown();
    for scope in scopes() {
        let keys: BTreeSet<&str> = scope.rows.iter().map(|row| row.key).collect();
        assert_eq!(keys.len(), scope.rows.len(), "{}", scope.path);
        for key in keys {
            assert!(page.contains(&format!("| `{key}` |")), "{key}");
        }
    }
}

#[test]
fn extensions_pass_everywhere_but_in_ours() {
    for scope in scopes() {
        let text = filled(scope, besides(scope.path), "x-other", "something");
        let outcome = files(&[&text]);
        if scope.extensible {
            assert!(outcome.is_ok(), "{text}");
        } else {
            let said = outcome.expect_err(&text).to_string();
            assert!(said.contains("unknown key `x-other`"), "{said}");
        }
    }
}
