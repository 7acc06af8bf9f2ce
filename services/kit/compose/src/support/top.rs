//! The keys of the top level, and of what is declared there beside services.

use super::{Row, Scope, but, idle, no, scope, yes};

pub(crate) static TOP: Scope = scope("", TOP_ROWS);
pub(crate) static VOLUME: Scope = scope("volumes.*", VOLUME_ROWS);
pub(crate) static CONFIG: Scope = scope("configs.*", CONFIG_ROWS);
pub(crate) static NETWORK: Scope = scope("networks.*", NETWORK_ROWS);

const TOP_ROWS: &[Row] = &[
    yes("name", "the app's name, unless --app gives one; default: the folder's name"),
    yes("services", "each is a workload"),
    yes("volumes", "named volumes; each stays on the node where it was first used"),
    yes(
        "configs",
        "contents are stored in the log, at most 512 KiB each; never put a secret there",
    ),
    idle("networks", "an app has one network, in which every workload finds every other by name"),
    idle("version", "it has no meaning since Compose v2"),
    no("include", "write the services here, or give several files with -f"),
    no(
        "secrets",
        "a secret must not enter the log: mount it from the node, or let the app fetch it",
    ),
    no("models", "run the model as a service of its own"),
    no("x-muster", "it belongs below a service"),
];

const VOLUME_ROWS: &[Row] = &[
    but(no("driver", "volumes are the engine's local ones"), &["local"]),
    no("driver_opts", "volumes are the engine's local ones"),
    no("external", "a volume belongs to its app: declare it without `external`"),
    idle("name", "the volume's name on the engine follows from tenant, app and volume"),
    idle("labels", "volumes have no labels"),
];

const CONFIG_ROWS: &[Row] = &[
    yes("file", "read when the file is converted"),
    yes("content", "variables in it are expanded"),
    yes("environment", "the content of a variable"),
    no("external", "give the content by file, content or environment"),
    no("template_driver", "give the content as it should be"),
    idle("name", "a config is known by its content"),
    idle("labels", "configs have no labels"),
];

const NETWORK_ROWS: &[Row] = &[
    no("external", "apps reach each other by published ports, or by name: x-muster.open"),
    no("internal", "the app's network reaches the outside: leave the network out"),
    idle("name", ""),
    but(idle("driver", ""), &["bridge", "overlay", "default"]),
    idle("driver_opts", ""),
    idle("attachable", ""),
    idle("enable_ipv4", ""),
    idle("enable_ipv6", ""),
    idle("ipam", ""),
    idle("labels", ""),
];
