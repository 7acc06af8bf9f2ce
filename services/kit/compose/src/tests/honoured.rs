//! What honoured keys become.

use schemas::id::{AppName, Digest};
use schemas::spec::{
    Check, Condition, Mode, MountSource, Open, Overlap, Protocol, Pull, RestartPolicy, Step,
    Strategy, UpdateStrategy,
};

use super::{files, right, warnings, web, workload};

/// For every honoured key: where it stands, what else is there, and a value that changes something.
pub(super) const SAMPLES: &[(&str, &str, &str, &str)] = &[
    ("", "name", "services: {web: {image: a}}", "other"),
    ("", "services", "", "{web: {image: a}}"),
    ("", "volumes", "services: {web: {image: a, volumes: ['data:/a']}}", "{data: }"),
    ("", "configs", "services: {web: {image: a}}", "{site: {content: x}}"),
    ("services.*", "image", "", "a"),
    ("services.*", "cap_add", "image: a", "[NET_ADMIN]"),
    ("services.*", "cap_drop", "image: a", "[ALL]"),
    ("services.*", "command", "image: a", "sleep 1"),
    ("services.*", "configs", "image: a", "[site]"),
    ("services.*", "cpus", "image: a", "0.5"),
    ("services.*", "depends_on", "image: a", "[db]"),
    ("services.*", "deploy", "image: a", "{replicas: 2}"),
    ("services.*", "entrypoint", "image: a", "[sleep, '1']"),
    ("services.*", "env_file", "image: a", "web.env"),
    ("services.*", "environment", "image: a", "{A: 1}"),
    ("services.*", "expose", "image: a", "['80']"),
    ("services.*", "healthcheck", "image: a", "{test: x}"),
    ("services.*", "init", "image: a", "true"),
    ("services.*", "labels", "image: a", "{a: b}"),
    ("services.*", "mem_limit", "image: a", "64M"),
    ("services.*", "mem_reservation", "image: a", "64M"),
    ("services.*", "pids_limit", "image: a", "100"),
    ("services.*", "platform", "image: a", "linux/amd64"),
    ("services.*", "ports", "image: a", "['80:80']"),
    ("services.*", "pull_policy", "image: a", "always"),
    ("services.*", "read_only", "image: a", "true"),
    ("services.*", "restart", "image: a", "no"),
    ("services.*", "scale", "image: a", "3"),
    ("services.*", "security_opt", "image: a", "['no-new-privileges:false']"),
    ("services.*", "stop_grace_period", "image: a", "1m"),
    ("services.*", "stop_signal", "image: a", "SIGINT"),
    ("services.*", "tmpfs", "image: a", "/run"),
    ("services.*", "user", "image: a", "1000"),
    ("services.*", "volumes", "image: a", "['data:/data']"),
    ("services.*", "working_dir", "image: a", "/srv"),
    ("services.*", "x-muster", "image: a", "{priority: 1}"),
    ("services.*.env_file[]", "path", "", "web.env"),
    ("services.*.env_file[]", "required", "path: nowhere", "false"),
    ("services.*.env_file[]", "format", "path: quoted.env", "raw"),
    ("services.*.ports[]", "target", "", "80"),
    ("services.*.ports[]", "published", "target: 80", "8080"),
    ("services.*.ports[]", "protocol", "target: 80", "udp"),
    ("services.*.ports[]", "app_protocol", "target: 80", "grpc"),
    ("services.*.ports[]", "mode", "target: 80, published: 8080", "host"),
    ("services.*.volumes[]", "type", "source: data, target: /a", "volume"),
    ("services.*.volumes[]", "source", "type: volume, target: /a", "data"),
    ("services.*.volumes[]", "target", "type: volume, source: data", "/a"),
    ("services.*.volumes[]", "read_only", "type: volume, source: data, target: /a", "true"),
    ("services.*.volumes[]", "tmpfs", "type: tmpfs, target: /a", "{size: 1M}"),
    ("services.*.volumes[].tmpfs", "size", "", "64M"),
    ("services.*.configs[]", "source", "", "site"),
    ("services.*.configs[]", "target", "source: site", "/etc/site"),
    ("services.*.configs[]", "mode", "source: site", "0440"),
    ("services.*.healthcheck", "test", "", "[CMD, 'true']"),
    ("services.*.healthcheck", "interval", "test: x", "1s"),
    ("services.*.healthcheck", "timeout", "test: x", "1s"),
    ("services.*.healthcheck", "retries", "test: x", "1"),
    ("services.*.healthcheck", "start_period", "test: x", "1m"),
    ("services.*.healthcheck", "disable", "test: x", "true"),
    ("services.*.depends_on.*", "condition", "", "service_healthy"),
    ("services.*.deploy", "mode", "", "global"),
    ("services.*.deploy", "replicas", "", "3"),
    ("services.*.deploy", "labels", "", "{a: b}"),
    ("services.*.deploy", "placement", "", "{max_replicas_per_node: 1}"),
    ("services.*.deploy", "resources", "", "{limits: {cpus: 1}}"),
    ("services.*.deploy", "restart_policy", "", "{condition: none}"),
    ("services.*.deploy", "update_config", "", "{parallelism: 2}"),
    ("services.*.deploy.resources", "limits", "", "{cpus: 1}"),
    ("services.*.deploy.resources", "reservations", "", "{cpus: 1}"),
    ("services.*.deploy.resources.limits", "cpus", "", "1"),
    ("services.*.deploy.resources.limits", "memory", "", "64M"),
    ("services.*.deploy.resources.limits", "pids", "", "10"),
    ("services.*.deploy.resources.reservations", "cpus", "", "1"),
    ("services.*.deploy.resources.reservations", "memory", "", "64M"),
    ("services.*.deploy.restart_policy", "condition", "", "on-failure"),
    ("services.*.deploy.restart_policy", "delay", "", "5s"),
    ("services.*.deploy.restart_policy", "max_attempts", "", "3"),
    ("services.*.deploy.restart_policy", "window", "", "10s"),
    ("services.*.deploy.placement", "constraints", "", "[node.hostname==n1]"),
    ("services.*.deploy.placement", "preferences", "", "[{spread: node.labels.zone}]"),
    ("services.*.deploy.placement", "max_replicas_per_node", "", "1"),
    ("services.*.deploy.placement.preferences[]", "spread", "", "node.labels.zone"),
    ("services.*.deploy.update_config", "parallelism", "", "2"),
    ("services.*.deploy.update_config", "monitor", "", "5s"),
    ("services.*.deploy.update_config", "order", "", "stop-first"),
    ("services.*.deploy.update_config", "failure_action", "", "pause"),
    ("services.*.x-muster", "min_ready", "", "1"),
    ("services.*.x-muster", "update", "", "{strategy: recreate}"),
    ("services.*.x-muster.update", "strategy", "", "blue-green"),
    ("services.*.x-muster.update", "steps", "strategy: canary", "[{weight: 10}]"),
    ("services.*.x-muster.update", "promote_after", "strategy: blue-green", "1m"),
    ("services.*.x-muster.update", "max_surge", "", "2"),
    ("services.*.x-muster.update", "max_unavailable", "", "1"),
    ("services.*.x-muster.update", "max_error_permille", "", "5"),
    ("services.*.x-muster.update.steps[]", "weight", "hold: 1m", "20"),
    ("services.*.x-muster.update.steps[]", "hold", "weight: 10", "1m"),
    ("services.*.x-muster", "autoscale", "", "{min: 1, max: 2, cpu_percent: 50}"),
    ("services.*.x-muster", "strategy", "", "bin_pack"),
    ("services.*.x-muster", "spread_over", "", "zone"),
    ("services.*.x-muster", "priority", "", "-5"),
    ("services.*.x-muster", "overlap", "", "never"),
    ("services.*.x-muster", "probe", "", "{tcp: {port: 80}}"),
    ("services.*.x-muster", "disk", "", "1G"),
    ("services.*.x-muster", "open", "", "all"),
    ("services.*.x-muster", "healthy_for", "", "1s"),
    ("services.*.x-muster", "deadline", "", "1m"),
    ("services.*.x-muster", "drain", "", "30s"),
    ("services.*.x-muster", "pre_deploy", "", "./migrate up"),
    ("services.*.x-muster", "post_deploy", "", "[./smoke]"),
    ("services.*.x-muster.pre_deploy", "command", "image: b", "./migrate"),
    ("services.*.x-muster.pre_deploy", "image", "command: ./migrate", "b"),
    ("services.*.x-muster.pre_deploy", "deadline", "command: ./migrate", "1m"),
    ("services.*.x-muster.post_deploy", "command", "image: b", "./smoke"),
    ("services.*.x-muster.post_deploy", "image", "command: ./smoke", "b"),
    ("services.*.x-muster.post_deploy", "deadline", "command: ./smoke", "1m"),
    ("services.*.x-muster.post_deploy", "rollback", "command: ./smoke", "true"),
    ("services.*.x-muster", "balance", "", "'cookie:stay'"),
    ("services.*.x-muster", "routes", "", "[{host: shop.example}]"),
    ("services.*.x-muster.routes[]", "host", "", "shop.example"),
    ("services.*.x-muster.routes[]", "path", "", "/api"),
    ("services.*.x-muster.routes[]", "port", "", "8080"),
    ("services.*.x-muster.routes[]", "tls", "", "{certificate: shop}"),
    ("services.*.x-muster.routes[]", "redirect", "", "https://example.org"),
    ("services.*.x-muster.routes[]", "rate_limit", "", "100"),
    ("services.*.x-muster.routes[]", "timeout", "", "5s"),
    ("services.*.x-muster.routes[]", "retries", "", "1"),
    ("services.*.x-muster.routes[]", "set_headers", "", "{x-from: muster}"),
    ("services.*.x-muster.routes[].tls", "certificate", "", "shop"),
    ("services.*.x-muster.routes[].tls", "acme", "", "true"),
    ("services.*.x-muster.routes[].tls", "redirect", "certificate: shop", "false"),
    ("services.*.x-muster.autoscale", "min", "max: 3, cpu_percent: 50", "2"),
    ("services.*.x-muster.autoscale", "max", "min: 2, cpu_percent: 50", "3"),
    ("services.*.x-muster.autoscale", "cpu_percent", "min: 1, max: 3", "50"),
    ("services.*.x-muster.autoscale", "memory_percent", "min: 1, max: 3", "50"),
    ("services.*.x-muster.autoscale", "requests_per_second", "min: 1, max: 3", "50"),
    ("services.*.x-muster.autoscale", "p95_ms", "min: 1, max: 3", "200"),
    ("services.*.x-muster.autoscale", "in_flight", "min: 1, max: 3", "8"),
    ("services.*.x-muster.autoscale", "up_window", "min: 1, max: 3, cpu_percent: 50", "1s"),
    ("services.*.x-muster.autoscale", "down_window", "min: 1, max: 3, cpu_percent: 50", "1m"),
    ("services.*.x-muster.probe", "http", "", "{port: 80}"),
    ("services.*.x-muster.probe", "tcp", "", "{port: 80}"),
    ("services.*.x-muster.probe", "exec", "", "{command: 'true'}"),
    ("services.*.x-muster.probe", "interval", "tcp: {port: 80}", "1s"),
    ("services.*.x-muster.probe", "timeout", "tcp: {port: 80}", "1s"),
    ("services.*.x-muster.probe", "retries", "tcp: {port: 80}", "1"),
    ("services.*.x-muster.probe", "start_period", "tcp: {port: 80}", "1m"),
    ("services.*.x-muster.probe.http", "port", "", "80"),
    ("services.*.x-muster.probe.http", "path", "port: 80", "/healthz"),
    ("services.*.x-muster.probe.tcp", "port", "", "80"),
    ("services.*.x-muster.probe.exec", "command", "", "[x]"),
    ("configs.*", "file", "", "site.conf"),
    ("configs.*", "content", "", "x"),
    ("configs.*", "environment", "", "TAG"),
];

/// Honoured keys without a sample: what they do shows in a file of another shape, tested below, or in
/// the keys under them.
pub(super) const ELSEWHERE: &[(&str, &str)] = &[
    ("services.*.depends_on.*", "required"),
    ("services.*.volumes[]", "bind"),
    ("services.*.volumes[]", "volume"),
];

#[test]
fn a_whole_file_becomes_an_app() {
    let converted = right(
        "services:\n  web:\n    image: web:${TAG}\n    depends_on:\n      db: {condition: service_healthy}\n  \
         db:\n    image: db:1\n    healthcheck: {test: [CMD, ok], interval: 1m30s}\n",
    );
    assert_eq!(converted.app.name.as_str(), "shop");
    assert_eq!(converted.app.workloads["web"].image, "web:1");
    assert_eq!(converted.app.workloads["web"].depends_on["db"], Condition::Healthy);
    let probe = converted.app.workloads["db"].probe.as_ref().expect("it has one");
    assert_eq!((probe.interval_ms, probe.timeout_ms, probe.retries), (90_000, 5_000, 3));
    let text = serde_json::to_vec(&converted.app).expect("it encodes");
    assert_eq!(
        serde_json::from_slice::<schemas::spec::AppSpec>(&text).expect("and back"),
        converted.app
    );
}

#[test]
fn commands_are_split_or_taken() {
    let spec = workload("command: |\n  sh -c 'a b'\n  c\nentrypoint: [x, \"y z\"]");
    assert_eq!(spec.command.unwrap_or_default(), ["sh", "-c", "a b", "c"]);
    assert_eq!(spec.entrypoint.unwrap_or_default(), ["x", "y z"]);
    assert_eq!(workload("command: []").command, Some(Vec::new()));
}

#[test]
fn numbers_keep_their_spelling_as_texts() {
    let spec = workload(
        "environment:\n  V: 1.10\n  M: 0755\n  B: true\n  Y: yes\n  N: 1e3\n  Z: ''\n  I: +5",
    );
    let got: Vec<&str> =
        ["V", "M", "B", "Y", "Z", "I"].iter().map(|k| spec.env[*k].as_str()).collect();
    assert_eq!(got, ["1.10", "0755", "true", "yes", "", "+5"]);
}

#[test]
fn variables_come_from_files_the_file_and_the_environment() {
    let spec = workload("env_file: web.env\nenvironment: [SHARED=own, TAG, \"LIT=$$x ${NO:-d}\"]");
    let env: Vec<String> = spec.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(env, ["FROM_FILE=file", "LIT=$x d", "SHARED=own", "TAG=1"]);
    let converted = right(&web("environment: {NOPE: }"));
    assert!(warnings(&converted)[0].contains("NOPE is not set"), "{:?}", warnings(&converted));
    assert!(converted.app.workloads["web"].env.is_empty());
    let spec = workload("env_file: [{path: web.env}, {path: no.env, required: false}]");
    assert_eq!(spec.env.len(), 2);
}

#[test]
fn interpolation_has_every_form() {
    for (text, wanted) in [
        ("$TAG", "1"),
        ("${TAG}", "1"),
        ("${NO:-d}", "d"),
        ("${NO-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${TAG:+x}", "x"),
        ("${NO+x}", ""),
        ("${TAG:?no}", "1"),
        ("$$TAG", "$TAG"),
        ("${NO:-${TAG}}", "1"),
    ] {
        for quote in ["'", "\""] {
            let spec = workload(&format!("environment:\n  A: {quote}{text}{quote}"));
            assert_eq!(spec.env["A"], wanted, "{text}");
        }
    }
}

#[test]
fn ports_have_every_form() {
    let ports = |says: &str| {
        let ports = workload(says).ports.into_iter();
        ports.map(|p| (p.published, p.container, p.host, p.protocol)).collect::<Vec<_>>()
    };
    let tcp = Protocol::Tcp;
    assert_eq!(ports("ports: ['8080:80']"), [(Some(8080), 80, None, tcp)]);
    assert_eq!(ports("ports: [80]"), [(None, 80, None, tcp)]);
    assert_eq!(ports("ports: ['53:53/udp']"), [(Some(53), 53, None, Protocol::Udp)]);
    assert_eq!(ports("ports: ['0.0.0.0:81:80', '[::]:82:80']").len(), 2);
    assert_eq!(
        ports("ports: ['9000-9001:80-81']"),
        [(Some(9000), 80, None, tcp), (Some(9001), 81, None, tcp)]
    );
    assert_eq!(ports("ports: [{target: 80, published: '8080'}]"), [(Some(8080), 80, None, tcp)]);
    assert_eq!(
        ports("ports: [{target: 80, published: 8080, mode: host}]"),
        [(None, 80, Some(8080), tcp)]
    );
    assert_eq!(ports("ports: ['8080:80']\nexpose: ['80', 81/udp]").len(), 2);
}

#[test]
fn mounts_start_from_the_folder_of_the_file() {
    let converted = right(
        &(web(
            "volumes: [./a:/a, '~/b:/b:ro', '../c/./d:/c', /e:/e, 'data:/data']\ntmpfs: [/run, '/tmp:size=64M']",
        ) + "volumes: {data: {driver: local}}\n"),
    );
    let spec = &converted.app.workloads["web"];
    let sources: Vec<String> = spec
        .mounts
        .iter()
        .map(|mount| match &mount.source {
            MountSource::Path(path) => path.clone(),
            MountSource::Volume(name) => name.to_string(),
        })
        .collect();
    assert_eq!(sources, ["/home/ana/Shop/a", "/home/ana/b", "/home/ana/c/d", "/e", "data"]);
    assert!(spec.mounts[1].read_only && !spec.mounts[0].read_only);
    assert_eq!((spec.tmpfs["/run"], spec.tmpfs["/tmp"]), (0, 67_108_864));
}

#[test]
fn configs_are_known_by_their_content() {
    let converted = right(
        &(web("configs: [inline, {source: site, target: /etc/site.conf, mode: 0440}]")
            + "configs:\n  site: {file: ./site.conf}\n  inline: {content: \"tag ${TAG}\"}\n  env: {environment: TAG}\n"),
    );
    let spec = &converted.app.workloads["web"];
    let site = Digest::of(b"listen 80\n");
    assert_eq!(spec.configs["/etc/site.conf"].digest, site);
    assert_eq!(spec.configs["/etc/site.conf"].mode.as_deref(), Some("0440"));
    assert_eq!(spec.configs["/inline"].digest, Digest::of(b"tag 1"));
    assert_eq!(converted.contents[&site], b"listen 80\n");
    assert_eq!(converted.contents.len(), 3);
}

#[test]
fn health_checks_have_every_form() {
    let check = |says: &str| workload(says).probe.map(|probe| probe.check);
    let exec = |words: &[&str]| {
        Some(Check::Exec { command: words.iter().map(|word| (*word).to_owned()).collect() })
    };
    assert_eq!(check("healthcheck: {test: [CMD, a, b]}"), exec(&["a", "b"]));
    assert_eq!(check("healthcheck: {test: [CMD-SHELL, a b]}"), exec(&["/bin/sh", "-c", "a b"]));
    assert_eq!(check("healthcheck: {test: a || b}"), exec(&["/bin/sh", "-c", "a || b"]));
    assert_eq!(check("healthcheck: {test: [NONE]}"), Some(Check::None));
    assert_eq!(check("healthcheck: {disable: true}"), Some(Check::None));
    let http = "x-muster: {probe: {http: {port: 80}, interval: 2s}}\nhealthcheck: {timeout: 1s}";
    let probe = workload(http).probe.expect("it has one");
    assert_eq!(probe.check, Check::Http { port: 80, path: "/".to_owned() });
    assert_eq!((probe.interval_ms, probe.timeout_ms), (2_000, 1_000));
}

#[test]
fn deploy_says_how_many_where_and_how() {
    let spec = workload(
        "deploy:\n  replicas: 3\n  resources:\n    limits: {cpus: '0.5', memory: 64M, pids: 50}\n    \
         reservations: {cpus: 0.25, memory: 32m}\n  restart_policy: {condition: on-failure, max_attempts: 2, delay: 2s, window: 30s}\n  \
         placement:\n    constraints: [node.labels.disk == ssd, node.hostname!=n1, node.platform.arch==x86_64, node.platform.os==linux]\n    \
         preferences: [{spread: node.labels.zone}]\n    max_replicas_per_node: 2\n  \
         update_config: {parallelism: 0, monitor: 3s, order: stop-first, failure_action: pause}\n  labels: {a: b}",
    );
    assert_eq!(spec.replicas, 3);
    assert_eq!(
        (spec.resources.cpu_limit_millis, spec.resources.cpu_millis),
        (Some(500), Some(250))
    );
    assert_eq!(spec.resources.memory_limit_bytes, Some(67_108_864));
    assert_eq!(
        (spec.resources.memory_bytes, spec.resources.pids_limit),
        (Some(33_554_432), Some(50))
    );
    let restart = spec.restart;
    assert_eq!((restart.policy, restart.attempts), (RestartPolicy::OnFailure, Some(2)));
    assert_eq!((restart.delay_ms, restart.reset_ms), (2_000, 30_000));
    let constraints: Vec<String> =
        spec.placement.constraints.iter().map(ToString::to_string).collect();
    assert_eq!(constraints, ["label.disk == ssd", "node != n1", "arch == amd64"]);
    assert_eq!(spec.placement.spread_over.as_deref(), Some("zone"));
    assert_eq!((spec.placement.max_per_node, spec.overlap), (Some(2), Overlap::Never));
    assert_eq!((spec.update.parallelism, spec.update.healthy_for_ms), (1_000, 3_000));
    assert!(!spec.update.rollback && workload("deploy: {}").update.rollback);
    assert_eq!(spec.labels["a"], "b");
}

#[test]
fn restart_is_always_unless_stated() {
    let policy = |says: &str| (workload(says).restart.policy, workload(says).restart.attempts);
    assert_eq!(policy(""), (RestartPolicy::Always, None));
    assert_eq!(policy("restart: no"), (RestartPolicy::No, None));
    assert_eq!(policy("restart: \"no\""), (RestartPolicy::No, None));
    assert_eq!(policy("restart: on-failure:3"), (RestartPolicy::OnFailure, Some(3)));
    assert_eq!(policy("restart: unless-stopped"), (RestartPolicy::Always, None));
    let both = "restart: always\ndeploy: {restart_policy: {condition: none}}";
    assert_eq!(policy(both), (RestartPolicy::No, None));
}

#[test]
fn security_is_tightened_and_relaxed_only_as_stated() {
    let spec = workload(
        "cap_drop: [ALL]\ncap_add: [CHOWN]\nread_only: true\ninit: true\nsecurity_opt: ['no-new-privileges:true']",
    );
    assert!(spec.security.read_only && spec.security.init && !spec.security.allow_new_privileges);
    assert_eq!(
        (spec.security.cap_drop, spec.security.cap_add),
        (vec!["ALL".to_owned()], vec!["CHOWN".to_owned()])
    );
    assert!(workload("security_opt: ['no-new-privileges=false']").security.allow_new_privileges);
}

#[test]
fn ours_says_what_compose_cannot() {
    let spec = workload(
        "x-muster:\n  autoscale: {min: 2, max: 6, cpu_percent: 70, up_window: 5s}\n  strategy: bin_pack\n  \
         spread_over: zone\n  priority: 7\n  overlap: never\n  disk: 1G\n  healthy_for: 1s\n  deadline: 2m\n  drain: 30s",
    );
    let autoscale = spec.autoscale.expect("it is there");
    assert_eq!((autoscale.min, autoscale.max, autoscale.cpu_percent), (2, 6, Some(70)));
    assert_eq!((autoscale.up_window_ms, autoscale.down_window_ms), (5_000, 300_000));
    assert_eq!((spec.replicas, spec.placement.strategy, spec.priority), (2, Strategy::BinPack, 7));
    assert_eq!((spec.overlap, spec.resources.disk_bytes), (Overlap::Never, Some(1 << 30)));
    assert_eq!((spec.update.healthy_for_ms, spec.update.deadline_ms), (1_000, 120_000));
    assert_eq!(spec.drain_ms, 30_000);
}

#[test]
fn a_service_is_open_to_whom_it_says() {
    assert_eq!(workload("").open, Open::No);
    assert_eq!(workload("x-muster: {open: all}").open, Open::All);
    let names = ["back", "front"].map(|name| AppName::new(name).expect("a name"));
    assert_eq!(workload("x-muster: {open: [front, back]}").open, Open::To(names.into()));
}

#[test]
fn pull_policies_and_platforms_are_ours() {
    assert_eq!(workload("pull_policy: if_not_present").pull, Pull::Missing);
    assert_eq!(workload("pull_policy: never").pull, Pull::Never);
    let constraints = workload("platform: linux/arm64/v8").placement.constraints;
    assert_eq!(constraints[0].to_string(), "arch == arm64");
}

#[test]
fn what_is_waited_for_to_complete_is_a_job() {
    let text = "services:\n  web:\n    image: a\n    depends_on: {init: {condition: service_completed_successfully}}\n  init:\n    image: a\n";
    let converted = right(text);
    assert_eq!(converted.app.workloads["init"].mode, Mode::Job);
    assert!(warnings(&converted)[0].contains("run as a job"), "{:?}", warnings(&converted));
    let stated = right(&format!("{text}    deploy: {{mode: replicated-job, replicas: 2}}\n"));
    assert_eq!((stated.app.workloads["init"].mode, stated.warnings.len()), (Mode::Job, 0));
}

#[test]
fn dependencies_that_are_not_required_may_be_missing() {
    let spec = workload("depends_on: {db: {condition: service_started, required: false}}");
    assert!(spec.depends_on.is_empty());
}

#[test]
fn capitals_are_lowered_with_a_word() {
    let text = "name: Shop\nservices:\n  Web: {image: a, depends_on: [DB], volumes: ['Data:/d']}\n  DB: {image: a}\nvolumes: {Data: }\n";
    let converted = right(text);
    assert_eq!(converted.app.name.as_str(), "shop");
    assert!(converted.app.workloads["web"].depends_on.contains_key("db"));
    assert_eq!(converted.warnings.len(), 4, "{:?}", warnings(&converted));
}

#[test]
fn anchors_merge_keys_and_extensions_serve() {
    let converted = right(
        "x-base: &base\n  image: a\n  environment: &env {A: 1}\nservices:\n  web:\n    <<: *base\n    user: x\n    \
         environment:\n      <<: *env\n      B: 2\n  db: *base\n",
    );
    let web = &converted.app.workloads["web"];
    assert_eq!((web.image.as_str(), web.env.len(), web.user.as_deref()), ("a", 2, Some("x")));
    assert_eq!(converted.app.workloads["db"].env["A"], "1");
    assert!(converted.warnings.is_empty());
}

#[test]
fn build_is_ignored_beside_an_image() {
    let converted = right(&web("build: {context: .}"));
    assert!(warnings(&converted)[0].contains("`build` is ignored"), "{:?}", warnings(&converted));
    assert!(files(&["services: {web: {build: .}}"]).is_err());
}

#[test]
fn a_rollout_is_as_stated() {
    let spec = workload(
        "x-muster:\n  min_ready: 2\n  update:\n    strategy: canary\n    max_surge: 0\n    max_unavailable: 1\n    \
         max_error_permille: 10\n    steps: [{weight: 5, hold: 1m}, {weight: 50}]",
    );
    let steps = vec![
        Step { weight_percent: 5, hold_ms: Some(60_000) },
        Step { weight_percent: 50, hold_ms: None },
    ];
    let update = spec.update;
    assert_eq!(update.strategy, UpdateStrategy::Canary { steps });
    assert_eq!((update.max_surge, update.max_unavailable), (Some(0), 1));
    assert_eq!((update.max_error_permille, spec.min_ready), (10, Some(2)));
    let blue_green = "x-muster: {update: {strategy: blue-green, promote_after: 30s}}";
    assert_eq!(
        workload(blue_green).update.strategy,
        UpdateStrategy::BlueGreen { promote_after_ms: Some(30_000) }
    );
}
