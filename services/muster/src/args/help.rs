//! What `--help` says beneath the flags: examples, and what cannot be guessed from a flag's name.

pub(super) const ALL: &str = "\
Which cluster: --nats-url or MUSTER_NATS_URL, else --context or MUSTER_CONTEXT, else the folder that
MUSTER_DEV_DIR names, else the NATS context that is selected, else the `muster dev` that this user runs,
else nats://127.0.0.1:4222. At the address of one's own `muster dev` no user needs to be named.

Data goes to standard output, progress and errors to standard error. Reads take -o json.

Exit codes:
  0   done
  1   the answer is no: not verified, something is ill, or something would change
  2   invalid input or usage
  3   refused by placement or policy
  4   timed out, still on its way
  5   cluster unreachable
  6   changed since the expected position
  7   not found
  8   not permitted
  10  internal error
  130 interrupted
  141 whoever read the output has closed it
`exec` ends as its command does.

Examples:
  muster dev --nodes 2
  muster deploy -f compose.yaml
  muster ps -o json | jq -r '.items[].endpoint'";

pub(super) const DEV: &str = "\
Everything runs in the foreground. Once it serves, standard output has one line, `ready nats://…`;
everything else goes to standard error. Ctrl-C or SIGTERM stops it, and containers run on. Started
again on the same folder it takes them over and touches none.

With --nats-url no nats-server is started. Each service connects as a user of its own, whose passwords
are kept in DIR/users.json; DIR/nats-users.conf is what the server's configuration must include. A
server on this machine that knows no users does as well. --nats-user and --nats-password are not used.

Examples:
  muster dev
  muster dev --nodes 3 --data-dir ./dev
  muster dev --nats-url nats://127.0.0.1:4222
  muster dev --listen 0.0.0.0 --nats-port 4222     # others may join with muster-node-agent";

pub(super) const DEPLOY: &str = "\
Waits until the app runs as declared; Ctrl-C stops waiting and nothing else. Exits with 3 when a
workload stalls: it fits nowhere, or its replicas fail.

Examples:
  muster deploy
  muster deploy -f compose.yaml -f compose.prod.yaml -d --reason 'ticket 42'
  muster deploy -f - --expect-position 184 < app.json";

pub(super) const CONFIG: &str = "\
Needs no cluster. What is printed as JSON can be published by any NATS client on
muster.v1.cmd.app.deploy. Exits with 2 when the file is not valid.

Examples:
  muster config
  muster config -f compose.yaml -f compose.prod.yaml -o json > app.json
  muster config --support";

pub(super) const PLAN: &str = "\
Folds the cluster's history and lets the controller's and the scheduler's own rules run over a copy of
it, as if every new replica became ready. Exits with 3 when something would not be placed or the
command would be rejected.

Examples:
  muster plan
  muster plan -f compose.yaml --exit-code > /dev/null
  muster plan -o json | jq '.workloads[].create'";

pub(super) const DELETE: &str = "\
Volumes stay on their nodes.

Example:
  muster delete shop";

pub(super) const SCALE: &str = "\
Example:
  muster scale shop web=5";

pub(super) const RESTART: &str = "\
Each new replica is ready before the one it replaces ends.

Example:
  muster restart shop web --reason 'new certificate'";

pub(super) const PS: &str = "\
Examples:
  muster ps
  muster ps --at 02:13
  muster ps shop -o json | jq -r '.items[] | select(.state != \"ready\") | .replica'";

pub(super) const ROUTES: &str = "\
A way is a published port, or a host and path on the ports of the gateways for HTTP and HTTPS. Requests a
second and times are those of the last ten seconds, over all gateways, of replicas that were sent any.

Examples:
  muster routes
  muster routes shop -o json | jq '.items[] | {way, p95_us}'";

pub(super) const APPS: &str = "\
Examples:
  muster apps -o json
  muster apps --at 'yesterday 14:03'";

pub(super) const NODES: &str = "\
CPU and memory are what replicas reserve, of what the node offers.

Examples:
  muster nodes
  muster nodes --at -10m";

pub(super) const STATE: &str = "\
Examples:
  muster state shop
  muster state --at r184";

pub(super) const LOGS: &str = "\
Lines come straight from the nodes and are stored nowhere on the way. Of a run that has ended, its last
lines are in history: muster why REPLICA.

Examples:
  muster logs shop
  muster logs shop/web -f -n 20
  muster logs shop --since 10m -t
  muster logs shop -o json | jq -r .text";

pub(super) const EXEC: &str = "\
Leaves a trace in history: who ran what, and where. Exits as the command does.

Examples:
  muster exec shop-web-k3v9q -- ls /data
  muster exec -it shop/web -- sh";

pub(super) const REPLAY: &str = "\
Examples:
  muster replay --verify
  muster replay --to 184 -o json | jq -r .state_hash";

pub(super) const WAIT: &str = "\
Exits with 1 when the app has stalled, with 4 when it takes longer.

Examples:
  muster wait shop
  muster wait shop --for deleted --timeout 30s";

pub(super) const CORDON: &str = "\
Workloads of mode global run on a cordoned node too; a drain ends them.

Example:
  muster cordon n2 --reason 'disk is noisy'";

pub(super) const UNCORDON: &str = "\
Example:
  muster uncordon n2";

pub(super) const DRAIN: &str = "\
Waits until nothing is left on the node that can move; Ctrl-C stops waiting and nothing else. Then says
which replicas stay, each with the reason: its volume lives there, it is for this node only, or it fits
nowhere else. Exits with 0 then too, and with 4 when some are still to move.

Examples:
  muster drain n2 --reason 'kernel update'
  muster drain n2 -d --expect-position 184";

pub(super) const LABEL: &str = "\
Example:
  muster label-node n2 disk=ssd zone=";

pub(super) const REMOVE: &str = "\
Example:
  muster remove-node n2";

pub(super) const LOST: &str = "\
Example:
  muster lost-node n2 --reason 'the machine is switched off'";

pub(super) const NOTE: &str = "\
Example:
  muster note app/shop approved --field ticket=42";

pub(super) const DOCTOR: &str = "\
Each line says what was looked at; one that is ill says what to do. Exits with 1 when something is ill.

Examples:
  muster doctor
  muster doctor -o json | jq -r '.items[] | select(.state == \"ill\") | .remedy'";

pub(super) const BACKUP: &str = "\
Events are checked against the hash chain as they come. A backup that was interrupted goes on where it
ended. Exits with 6 when DIR holds another history. docs/backup.md says what to do with it.

Example:
  muster backup --into /srv/backup";

pub(super) const RESTORE: &str = "\
Every event is checked against the hash chain, and the state against its hash in the backup. A log that
is there already is never overwritten. What the events stream has beyond the backup is taken in when
event-log starts.

Examples:
  muster restore --from /srv/backup --data-dir ./dev
  muster restore --from /srv/backup --state-dir /var/lib/muster";

pub(super) const CONTEXT: &str = "\
Contexts are those of the `nats` command, in ~/.config/nats/context.

Examples:
  muster context ls
  muster context use staging
  muster context show";

pub(super) const SCHEMA: &str = "\
Examples:
  muster schema
  muster schema app.deploy";

pub(super) const COMPLETION: &str = "\
Example:
  muster completion bash > /etc/bash_completion.d/muster";
