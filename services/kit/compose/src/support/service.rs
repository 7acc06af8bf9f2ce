//! The keys of a service and of all below it.

use super::{Row, Scope, but, closed, idle, no, scope, yes};

pub(crate) static SERVICE: Scope = scope("services.*", SERVICE_ROWS);
pub(crate) static ENV_FILE: Scope = scope("services.*.env_file[]", ENV_FILE_ROWS);
pub(crate) static PORT: Scope = scope("services.*.ports[]", PORT_ROWS);
pub(crate) static MOUNT: Scope = scope("services.*.volumes[]", MOUNT_ROWS);
pub(crate) static MOUNT_BIND: Scope = scope("services.*.volumes[].bind", MOUNT_BIND_ROWS);
pub(crate) static MOUNT_VOLUME: Scope = scope("services.*.volumes[].volume", MOUNT_VOLUME_ROWS);
pub(crate) static MOUNT_TMPFS: Scope = scope("services.*.volumes[].tmpfs", MOUNT_TMPFS_ROWS);
pub(crate) static CONFIG_REF: Scope = scope("services.*.configs[]", CONFIG_REF_ROWS);
pub(crate) static HEALTHCHECK: Scope = scope("services.*.healthcheck", HEALTHCHECK_ROWS);
pub(crate) static DEPENDENCY: Scope = scope("services.*.depends_on.*", DEPENDENCY_ROWS);
pub(crate) static DEPLOY: Scope = scope("services.*.deploy", DEPLOY_ROWS);
pub(crate) static RESOURCES: Scope = scope("services.*.deploy.resources", RESOURCES_ROWS);
pub(crate) static LIMITS: Scope = scope("services.*.deploy.resources.limits", LIMITS_ROWS);
pub(crate) static RESERVATIONS: Scope =
    scope("services.*.deploy.resources.reservations", RESERVATIONS_ROWS);
pub(crate) static RESTART_POLICY: Scope =
    scope("services.*.deploy.restart_policy", RESTART_POLICY_ROWS);
pub(crate) static PLACEMENT: Scope = scope("services.*.deploy.placement", PLACEMENT_ROWS);
pub(crate) static PREFERENCE: Scope =
    scope("services.*.deploy.placement.preferences[]", PREFERENCE_ROWS);
pub(crate) static UPDATE: Scope = scope("services.*.deploy.update_config", UPDATE_ROWS);
pub(crate) static MUSTER: Scope = closed("services.*.x-muster", MUSTER_ROWS);
pub(crate) static PRE_DEPLOY: Scope = closed("services.*.x-muster.pre_deploy", PRE_DEPLOY_ROWS);
pub(crate) static POST_DEPLOY: Scope = closed("services.*.x-muster.post_deploy", POST_DEPLOY_ROWS);
pub(crate) static ROLLOUT: Scope = closed("services.*.x-muster.update", ROLLOUT_ROWS);
pub(crate) static STEP: Scope = closed("services.*.x-muster.update.steps[]", STEP_ROWS);
pub(crate) static AUTOSCALE: Scope = closed("services.*.x-muster.autoscale", AUTOSCALE_ROWS);
pub(crate) static ROUTE: Scope = closed("services.*.x-muster.routes[]", ROUTE_ROWS);
pub(crate) static ROUTE_TLS: Scope = closed("services.*.x-muster.routes[].tls", ROUTE_TLS_ROWS);
pub(crate) static PROBE: Scope = closed("services.*.x-muster.probe", PROBE_ROWS);
pub(crate) static PROBE_HTTP: Scope = closed("services.*.x-muster.probe.http", PROBE_HTTP_ROWS);
pub(crate) static PROBE_TCP: Scope = closed("services.*.x-muster.probe.tcp", PROBE_TCP_ROWS);
pub(crate) static PROBE_EXEC: Scope = closed("services.*.x-muster.probe.exec", PROBE_EXEC_ROWS);

const SERVICE_ROWS: &[Row] = &[
    no("annotations", "use labels"),
    idle("attach", "it concerns the terminal of `docker compose up` only"),
    idle("blkio_config", "disk bandwidth is not shared out"),
    idle(
        "build",
        "the image is taken as it is; without `image` it is refused: build, push and name it",
    ),
    yes("cap_add", ""),
    yes("cap_drop", ""),
    but(no("cgroup", "containers have a cgroup of their own"), &["private"]),
    no("cgroup_parent", "containers have a cgroup of their own"),
    yes("command", "a string is split as a shell would"),
    yes("configs", ""),
    idle("container_name", "a container is named by its replica and run"),
    no("cpu_count", "use cpus"),
    no("cpu_percent", "use cpus"),
    no("cpu_period", "use cpus"),
    no("cpu_quota", "use cpus"),
    no("cpu_rt_period", "real-time scheduling is not offered"),
    no("cpu_rt_runtime", "real-time scheduling is not offered"),
    idle("cpu_shares", "shares follow from reserved cpu: deploy.resources.reservations.cpus"),
    yes("cpus", "as deploy.resources.limits.cpus"),
    idle("cpuset", "cores are not pinned"),
    no("credential_spec", "Windows only"),
    yes("depends_on", "all three conditions, across nodes"),
    yes("deploy", ""),
    idle("develop", "it concerns `docker compose watch` only"),
    no("device_cgroup_rules", "devices are not offered"),
    no("devices", "devices are not offered"),
    no("dns", "names outside are those that the node's resolvers know: configure them there"),
    no("dns_opt", "names outside are those that the node's resolvers know: configure them there"),
    no(
        "dns_search",
        "names outside are those that the node's resolvers know: configure them there",
    ),
    idle("domainname", "the host name is the replica's id"),
    no("driver_opts", "the app's network has no options"),
    yes("entrypoint", "a string is split as a shell would"),
    yes("env_file", "paths start from the first file's folder"),
    yes("environment", "a name without a value takes that of your environment"),
    yes(
        "expose",
        "other services reach it by name on every node; ports of the image need not be named",
    ),
    no("extends", "write the service in full, use a YAML anchor, or give several files with -f"),
    no("external_links", "open the other app's service with x-muster.open, and use SERVICE.APP"),
    no("extra_hosts", "use names that resolve"),
    no("gpus", "devices are not offered"),
    no("group_add", "give the group in user, as 1000:1000"),
    yes("healthcheck", "a try runs inside the container; for http and tcp see x-muster.probe"),
    idle("hostname", "the host name is the replica's id"),
    yes("image", "required"),
    yes("init", ""),
    but(no("ipc", "containers share no memory with others"), &["private"]),
    but(no("isolation", "Windows only"), &["default"]),
    no("label_file", "write the labels under labels"),
    yes("labels", ""),
    idle("links", "every workload finds every other by name; an alias (SERVICE:ALIAS) is refused"),
    idle("logging", "output is kept by the engine, three files of 10 MB"),
    idle("mac_address", "the engine chooses it"),
    yes("mem_limit", "as deploy.resources.limits.memory"),
    yes("mem_reservation", "as deploy.resources.reservations.memory"),
    idle("mem_swappiness", "a container with a memory limit has no swap"),
    idle("memswap_limit", "a container with a memory limit has no swap"),
    no("models", "run the model as a service of its own"),
    but(
        no("network_mode", "a workload is on its app's network: publish the ports it needs"),
        &["bridge"],
    ),
    idle("networks", "an app has one network, in which every workload finds every other by name"),
    idle("oom_kill_disable", "memory limits hold"),
    idle("oom_score_adj", "the kernel's choice stands"),
    no("pid", "containers do not see the processes of others"),
    yes("pids_limit", "as deploy.resources.limits.pids; default 4,096"),
    yes("platform", "os/arch: the node must be of that architecture"),
    yes("ports", "published on every node; with `mode: host` on the replica's node alone"),
    no("post_start", "do it in the entrypoint"),
    no("pre_start", "do it in the entrypoint, or in a job that depends_on names"),
    no("pre_stop", "do it when the stop signal comes"),
    no("privileged", "add the capabilities it needs with cap_add"),
    no("profiles", "give the services of a profile in a file of their own, with -f"),
    no("provider", "only containers are run"),
    yes("pull_policy", "always, never, missing, if_not_present"),
    no("pull_refresh_after", "use pull_policy: always"),
    yes("read_only", ""),
    yes("restart", "default: always; unless-stopped means always"),
    but(no("runtime", "the engine's default runtime is used"), &["runc"]),
    yes("scale", "as deploy.replicas"),
    no(
        "secrets",
        "a secret must not enter the log: mount it from the node, or let the app fetch it",
    ),
    yes("security_opt", "no-new-privileges only; it is on by default, and :false turns it off"),
    no("shm_size", "mount a tmpfs of that size at /dev/shm"),
    idle("stdin_open", "nobody sits at the terminal"),
    yes("stop_grace_period", "default 10s"),
    yes("stop_signal", ""),
    no("storage_opt", "use a volume, and x-muster.disk to reserve room"),
    no("sysctls", "set them on the node"),
    yes("tmpfs", "the option size is honoured, others are refused"),
    idle("tty", "nobody sits at the terminal"),
    no("ulimits", "set them as the engine's defaults"),
    no("use_api_socket", "containers do not reach the engine"),
    yes("user", ""),
    no("userns_mode", "set it for the engine"),
    no("uts", "containers have a host name of their own"),
    yes("volumes", "named volumes, and paths that the node allows"),
    no("volumes_from", "name the volume in both services"),
    yes("working_dir", ""),
    yes("x-muster", "what Compose has no word for"),
];

const ENV_FILE_ROWS: &[Row] = &[
    yes("path", ""),
    yes("required", "false: a file that is not there is passed over"),
    yes("format", "raw: values are taken as they are"),
];

const PORT_ROWS: &[Row] = &[
    yes("target", "the port in the container"),
    yes("published", "the port on every node; a range must be as long as the target's"),
    yes("protocol", "tcp or udp"),
    yes("mode", "ingress, or host: that port of the replica's own node"),
    but(
        no("host_ip", "a port is served on every address of a node: leave the address out"),
        &["0.0.0.0", "::"],
    ),
    idle("name", "ports have no names"),
    yes(
        "app_protocol",
        "http; http2, h2c or grpc (to the container as well); tcp, tls or https: bytes as they are; proxy: \
         bytes behind a PROXY v2 header. Any other: what the first bytes show",
    ),
];

const MOUNT_ROWS: &[Row] = &[
    yes("type", "volume, bind or tmpfs"),
    yes("source", "a declared volume, or a path"),
    yes("target", "an absolute path"),
    yes("read_only", ""),
    yes("bind", ""),
    yes("volume", ""),
    yes("tmpfs", ""),
    idle("consistency", "it has no meaning on Linux"),
    no("image", "copy what you need into the service's image"),
    no("cluster", "volumes are the engine's local ones"),
];

const MOUNT_BIND_ROWS: &[Row] = &[
    but(no("propagation", "mounts made later are not passed on"), &["rprivate", "private"]),
    idle("create_host_path", "a path that is not there is an error"),
    idle("selinux", "labels of files are left as they are"),
    but(no("recursive", "what is mounted below comes along"), &["enabled"]),
];

const MOUNT_VOLUME_ROWS: &[Row] = &[
    idle("nocopy", "a new volume begins with what the image has there"),
    no("subpath", "mount the volume as a whole"),
    idle("labels", "volumes have no labels"),
];

const MOUNT_TMPFS_ROWS: &[Row] =
    &[yes("size", ""), idle("mode", "the mode is the engine's default, 1777")];

const CONFIG_REF_ROWS: &[Row] = &[
    yes("source", "the name under configs"),
    yes("target", "an absolute path; default: /NAME"),
    but(idle("uid", "config files belong to root"), &["0"]),
    but(idle("gid", "config files belong to root"), &["0"]),
    yes("mode", "octal digits; default 0444"),
];

const HEALTHCHECK_ROWS: &[Row] = &[
    yes("test", "CMD, CMD-SHELL, a string, or NONE"),
    yes("interval", "default 10s"),
    yes("timeout", "default 5s"),
    yes("retries", "default 3"),
    yes("start_period", "default 0s"),
    idle("start_interval", "tries are one interval apart from the start"),
    yes("disable", "the image's own check as well"),
];

const DEPENDENCY_ROWS: &[Row] = &[
    yes("condition", "service_started, service_healthy, service_completed_successfully"),
    yes("required", "false: a service that is not there is passed over"),
    idle("restart", "a workload is not restarted because another one was"),
];

const DEPLOY_ROWS: &[Row] = &[
    yes("mode", "replicated, global, replicated-job"),
    yes("replicas", "default 1; of a job: how many must succeed"),
    but(no("endpoint_mode", "a published port is forwarded to ready replicas: vip"), &["vip"]),
    yes("labels", "put on containers, as labels"),
    yes("placement", ""),
    yes("resources", ""),
    yes("restart_policy", "wins over restart"),
    idle("rollback_config", "what goes back is replaced as that revision's update_config says"),
    yes("update_config", ""),
];

const RESOURCES_ROWS: &[Row] = &[yes("limits", ""), yes("reservations", "")];

const LIMITS_ROWS: &[Row] = &[yes("cpus", ""), yes("memory", ""), yes("pids", "default 4,096")];

const RESERVATIONS_ROWS: &[Row] = &[
    yes("cpus", "default: the limit"),
    yes("memory", "default: the limit"),
    no("devices", "devices are not offered"),
    no("generic_resources", "label nodes, and use placement.constraints"),
];

const RESTART_POLICY_ROWS: &[Row] = &[
    yes("condition", "none, on-failure, any"),
    yes("delay", "the first wait; it doubles up to a minute"),
    yes("max_attempts", ""),
    yes("window", "a run that lasted so long starts the waits anew"),
];

const PLACEMENT_ROWS: &[Row] = &[
    yes("constraints", "node.hostname, node.labels.KEY and node.platform.arch with == or !="),
    yes("preferences", "one, over a node label"),
    yes("max_replicas_per_node", ""),
];

const PREFERENCE_ROWS: &[Row] = &[yes("spread", "node.labels.KEY")];

const UPDATE_ROWS: &[Row] = &[
    yes("parallelism", "default 1; 0 means all at once"),
    yes("monitor", "how long a new replica must be ready before the next; default 10s"),
    yes("order", "default start-first; stop-first is x-muster.overlap: never"),
    idle("delay", "the next replica follows once one is ready: use monitor"),
    yes("failure_action", "rollback (default), or pause: what fails stays where it is"),
    but(idle("max_failure_ratio", "a replica that fails three times fails the revision"), &["0"]),
];

const MUSTER_ROWS: &[Row] = &[
    yes("autoscale", "as many replicas as their use or traffic asks for"),
    yes("strategy", "spread (default) or bin_pack"),
    yes("spread_over", "a node label over whose values replicas are spread"),
    yes("priority", "which workload is placed first when room is short; default 0"),
    yes("overlap", "allow (default), or never: the new replica waits until the old one ended"),
    yes("probe", "an http, tcp or exec check made by the agent"),
    yes("disk", "reserved disk, as a size"),
    yes("open", "which other apps reach it by name: all, or a list of apps; default: none"),
    yes(
        "healthy_for",
        "how long a new replica must be ready before the next is replaced; default 10s",
    ),
    yes("deadline", "after which a new replica that is not ready fails the rollout; default 5m"),
    yes("min_ready", "how many ready replicas drains and rollouts must leave"),
    yes("update", "how a changed revision takes over: docs/rollouts.md"),
    yes(
        "balance",
        "which replica gets the next request: least_loaded (default), round_robin, client_address, \
         header:NAME, cookie:NAME",
    ),
    yes(
        "pre_deploy",
        "a command, or a mapping: a job that must succeed before a changed revision begins",
    ),
    yes("post_deploy", "a command, or a mapping: a job that runs once all is as declared"),
    yes("routes", "requests that lead here through --http-port and --https-port of the gateways"),
    yes(
        "drain",
        "how long what is under way may go on before a replica is asked to stop; default 10s, at most 1h",
    ),
];

const PRE_DEPLOY_ROWS: &[Row] = &[
    yes("command", "what it runs; default: the command of its image"),
    yes("image", "default: that of the service"),
    yes(
        "deadline",
        "how long it may take to begin, or be unheard of; default: that of the service",
    ),
];

const POST_DEPLOY_ROWS: &[Row] = &[
    yes("command", "what it runs; default: the command of its image"),
    yes("image", "default: that of the service"),
    yes(
        "deadline",
        "how long it may take to begin, or be unheard of; default: that of the service",
    ),
    yes(
        "rollback",
        "whether the revision has failed when it fails; default false: that is reported",
    ),
];

const ROUTE_ROWS: &[Row] = &[
    yes("host", "a name, or *.NAME for all below it; default any"),
    yes("path", "what the path begins with; default /"),
    yes("port", "the container's port; default the first TCP port"),
    yes("tls", "over TLS"),
    yes("redirect", "a URL to answer with, in which {host} and {path} are the request's"),
    yes("rate_limit", "requests a second that each gateway lets through"),
    yes("timeout", "after which a request without an answer has failed; default 60s"),
    yes("retries", "how often a request that may be repeated goes to another replica; default 2"),
    yes("set_headers", "request headers that are set"),
];

const ROUTE_TLS_ROWS: &[Row] = &[
    yes("certificate", "its name among the gateways' certificates"),
    yes("acme", "true: it is ordered from the CA that gateways are told of"),
    yes("redirect", "whether plain requests are redirected; default true"),
];

const ROLLOUT_ROWS: &[Row] = &[
    yes("strategy", "rolling (default), recreate, canary or blue-green"),
    yes("steps", "of a canary, in order"),
    yes("promote_after", "of blue-green: how long it must go well; default: until it is promoted"),
    yes("max_surge", "how many may stand beside the old ones; default: parallelism"),
    yes("max_unavailable", "how many of the declared number may be missing; default 0"),
    yes("max_error_permille", "how many more of 1000 requests may fail than before; default 50"),
];

const STEP_ROWS: &[Row] = &[
    yes("weight", "required: the share of the traffic, in percent"),
    yes("hold", "how long it must go well; default: until it is promoted"),
];

const AUTOSCALE_ROWS: &[Row] = &[
    yes("min", "required, at least 1"),
    yes("max", "required"),
    yes("cpu_percent", "of reserved cpu"),
    yes("memory_percent", "of reserved memory"),
    yes("requests_per_second", "of each ready replica, as gateways count: docs/autoscaling.md"),
    yes("p95_ms", "the time in which 95 of 100 answers begin"),
    yes("in_flight", "requests under way at a time, of each ready replica"),
    yes("up_window", "default 15s"),
    yes("down_window", "default 5m"),
];

const PROBE_ROWS: &[Row] = &[
    yes("http", "a GET answered with 200 to 399"),
    yes("tcp", "a connection that is accepted"),
    yes("exec", "a program in the container that exits with 0"),
    yes("interval", "default 10s"),
    yes("timeout", "default 5s"),
    yes("retries", "default 3"),
    yes("start_period", "default 0s"),
];

const PROBE_HTTP_ROWS: &[Row] = &[yes("port", "the container's port"), yes("path", "default /")];

const PROBE_TCP_ROWS: &[Row] = &[yes("port", "the container's port")];

const PROBE_EXEC_ROWS: &[Row] = &[yes("command", "a string is split as a shell would")];
