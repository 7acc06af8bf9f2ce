//! What is said about files that are wrong.

use super::{files, right, warnings, web, wrong};

/// Checks that each file that `web` makes is refused with a word that helps.
#[track_caller]
fn refused(cases: &[(&str, &str)]) {
    for (says, part) in cases {
        let said = wrong(&web(says));
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

#[test]
fn an_unknown_key_has_its_place_and_the_one_that_was_meant() {
    let said = wrong("services:\n  web:\n    image: web:1\n    comand: sleep\n");
    let wanted = "compose.yaml:4:5: unknown key `comand` in services.*: did you mean `command`?\n  \
                  |\n4 |     comand: sleep\n  |     ^^^^^^";
    assert_eq!(said, wanted);
    let said = wrong(&web("deploy:\n  replica: 3"));
    assert!(said.contains("did you mean `replicas`?"), "{said}");
    let said = wrong(&web("x-muster:\n  autoscaling: {}"));
    assert!(said.contains("services.*.x-muster: did you mean `autoscale`?"), "{said}");
}

#[test]
fn every_error_is_said_at_once() {
    let said = wrong(&web("privileged: true\ncomand: x\npid: host\nports: [99999]"));
    for part in ["`privileged` is refused", "`comand`", "`pid` is refused", "a port from 1"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}

#[test]
fn a_place_is_right_inside_anchors_merges_and_flows() {
    let text =
        "x-base: &base\n  restart: sometimes\nservices:\n  web:\n    <<: *base\n    image: a\n";
    assert!(wrong(text).starts_with("compose.yaml:2:12: "), "{}", wrong(text));
    let text = "services: {web: {image: a, ports: [\"80:x\"]}}";
    assert!(wrong(text).starts_with("compose.yaml:1:36: "), "{}", wrong(text));
    let said = files(&["services: {web: {image: a}}", "services: {web: {imag: a}}"]);
    let said = said.expect_err("a key is misspelt").to_string();
    assert!(said.starts_with("override.yaml:1:18: "), "{said}");
}

#[test]
fn what_is_no_yaml_has_a_place_too() {
    for text in ["services: [", "a: b: c", "\tservices:", "services:\n  web: &a *b"] {
        assert!(wrong(text).starts_with("compose.yaml:"), "{}", wrong(text));
    }
    assert!(wrong("").contains("empty"), "{}", wrong(""));
    assert!(wrong("a: 1\na: 2").contains("dup"), "{}", wrong("a: 1\na: 2"));
    assert!(wrong("services: {}").contains("at least one"));
    assert!(wrong("[]").contains("a mapping is needed"));
}

#[test]
fn variables_that_must_be_set_say_why() {
    let said = wrong("services:\n  web:\n    image: web:${VERSION:?set a version}\n");
    assert!(said.contains("set a version") && said.contains("compose.yaml:3:"), "{said}");
    assert!(wrong(&web("user: ${}")).contains("compose.yaml:4:"));
    let unset = right("services:\n  web:\n    image: web:1$UNSET\n");
    let said = warnings(&unset);
    assert!(said.len() == 1 && said[0].contains("UNSET is not set"), "{said:?}");
}

#[test]
fn values_out_of_place_say_what_is_needed() {
    refused(&[
        ("ports: ['80:90-99']", "as long as"),
        ("ports: ['127.0.0.1:80:80']", "every address"),
        ("ports: ['[::1]:80:80']", "every address"),
        ("ports: ['80/sctp']", "tcp or udp"),
        ("ports: ['90-80']", "a range"),
        ("ports: ['1-5000']", "128"),
        ("ports: [{target: 0}]", "from 1 to 65535"),
        ("ports: [{published: 80}]", "`target` is missing"),
        ("ports: {a: b}", "a list is needed here, not a mapping"),
        ("volumes: [/data]", "declare one under `volumes:`"),
        ("volumes: ['/data:ro']", "declare one under `volumes:`"),
        ("volumes: [{type: volume, target: /data}]", "declare one"),
        ("volumes: ['data:/data']", "there is no volume `data`"),
        ("volumes: ['./a:data']", "SOURCE:TARGET"),
        ("volumes: ['./a:/data/../x']", "without `..`"),
        ("volumes: ['./a:/b:rslave']", "use ro or rw"),
        ("volumes: [{type: npipe, source: a, target: /b}]", "one of volume, bind, tmpfs"),
        ("tmpfs: /run:mode=700", "only size"),
        ("configs: [site]", "there is no config `site`"),
        ("depends_on: [db]", "there is no service `db`"),
        ("depends_on: {web: {condition: ready}}", "service_healthy"),
        ("healthcheck: {interval: 1s}", "nothing to try"),
        ("healthcheck: {test: [PING, x]}", "[CMD"),
        ("healthcheck: {test: x, retries: 0}", "from 1 on"),
        ("healthcheck: {test: x, interval: 0s}", "above 0"),
        ("healthcheck: {test: x}\nx-muster: {probe: {tcp: {port: 1}}}", "both say"),
        ("x-muster: {probe: {interval: 1s}}", "one of http, tcp and exec"),
        ("x-muster: {probe: {http: {port: 1, path: x}}}", "begins with /"),
        ("x-muster: {autoscale: {min: 1, max: 3}}", "nothing to go by"),
        ("x-muster: {autoscale: {min: 1, max: 3, p95_ms: 0}}", "`p95_ms` must be above 0"),
        ("x-muster: {autoscale: {min: 3, max: 1, cpu_percent: 50}}", "not below it"),
        ("scale: 9\nx-muster: {autoscale: {min: 1, max: 3, cpu_percent: 50}}", "not from `min`"),
        (
            "deploy: {mode: global}\nx-muster: {autoscale: {min: 1, max: 3, cpu_percent: 50}}",
            "only a replicated",
        ),
        ("deploy: {mode: global-job}", "use replicated-job"),
        ("deploy: {placement: {constraints: ['node.role==manager']}}", "no manager nodes"),
        ("deploy: {placement: {constraints: ['node.labels.a']}}", "ATTRIBUTE==VALUE"),
        ("deploy: {placement: {preferences: [{spread: a}]}}", "node.labels.KEY"),
        (
            "deploy: {placement: {preferences: [{spread: node.labels.a}, {spread: node.labels.b}]}}",
            "one label",
        ),
        ("deploy: {endpoint_mode: dnsrr}", "vip"),
        ("deploy: {resources: {limits: {memory: 64X}}}", "is not a size"),
        ("deploy: {resources: {limits: {cpus: many}}}", "number of cores"),
        ("mem_limit: 1g\ndeploy: {resources: {limits: {memory: 2g}}}", "differ"),
        ("scale: 1\ndeploy: {replicas: 2}", "differ"),
        ("cpus: 1\ndeploy: {resources: {limits: {cpus: 2}}}", "differ"),
        ("pids_limit: -1", "there always is a limit"),
        ("restart: sometimes", "unless-stopped"),
        ("restart: always:3", "on-failure:N"),
        ("stop_grace_period: 10", "is not a duration"),
        ("security_opt: [seccomp=unconfined]", "only no-new-privileges"),
        ("pull_policy: build", "one of missing"),
        ("platform: windows/amd64", "linux/amd64"),
        ("links: ['db:database']", "the alias"),
        ("command: \"sh -c 'x\"", "not closed"),
        ("read_only: maybe", "true or false"),
        ("env_file: nowhere.env", "nowhere.env: no such file"),
        ("env_file: bad.env", "bad.env:2: "),
        ("environment: ['=x']", "needs a name"),
        ("user: [a]", "a text is needed here, not a list"),
    ]);
}

#[test]
fn what_lacks_an_image_says_what_to_do() {
    let said = wrong("services:\n  web:\n    build: .\n");
    assert!(said.contains("compose.yaml:3:5: ") && said.contains("does not build"), "{said}");
    assert!(wrong("services: {web: {}}").contains("no `image`"));
}

#[test]
fn networks_and_volumes_that_others_made_are_refused() {
    let said = wrong(&(web("") + "networks: {shared: {external: true, driver: x}}\n"));
    assert!(said.contains("`external` is refused: apps reach"), "{said}");
    let said = wrong(&(web("") + "volumes: {data: {external: true}}\n"));
    assert!(said.contains("a volume belongs to its app"), "{said}");
    let said = wrong(&(web("") + "volumes: {data: {driver: nfs}}\n"));
    assert!(said.contains("the engine's local ones"), "{said}");
    let said = wrong(&(web("") + "configs: {a: {file: x, content: y}}\n"));
    assert!(said.contains("one of file, content"), "{said}");
    let said = wrong(&(web("") + "configs: {a: {file: nowhere}}\n"));
    assert!(said.contains("nowhere: no such file"), "{said}");
    let said = wrong(&(web("") + "configs: {a: {environment: NOPE}}\n"));
    assert!(said.contains("NOPE is not set"), "{said}");
}

#[test]
fn names_outside_of_the_alphabet_have_a_suggestion() {
    let said = wrong("services: {web.front: {image: a}}");
    assert!(said.contains("write `web-front`"), "{said}");
    assert!(wrong("services: {-web: {image: a}}").contains("workload name"));
    let said = wrong("services: {web: {image: a}, Web: {image: a}}");
    assert!(said.contains("are one workload name"), "{said}");
    assert!(wrong("name: a.b\nservices: {web: {image: a}}").contains("write `a-b`"));
}

#[test]
fn what_never_completes_cannot_be_waited_for() {
    for target in ["restart: always", "deploy: {mode: replicated}"] {
        let text = format!(
            "services:\n  web:\n    image: a\n    depends_on: {{init: {{condition: service_completed_successfully}}}}\n  init:\n    image: a\n    {target}\n"
        );
        assert!(wrong(&text).contains("never completes"), "{}", wrong(&text));
    }
}
