#!/usr/bin/env bash
# Shows the main job from nothing: deploy, reach, scale, heal, lose a node, ask why, restart everything.
# On a terminal it stays up at the end; without one it cleans up and exits 0.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=target/debug
dir=$(mktemp -d --suffix=.muster-demo)
export MUSTER_DEV_DIR=$dir
app=demo$$
port=$((20000 + $$ % 10000))
dev='' agent=''

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$bin/$@"; }
die() { printf 'demo: %s\n' "$*" >&2; tail -n 20 "$dir"/*.log >&2 || true; exit 1; }

cleanup() {
    for pid in $agent $dev; do kill -CONT "$pid" 2>/dev/null || true; kill "$pid" 2>/dev/null || true; done
    for pid in $agent $dev; do wait "$pid" 2>/dev/null || true; done
    for node in n1 n2 n3; do
        docker ps -aq --filter "label=io.muster.node=$node" --filter "label=io.muster.app=main/$app" \
            | xargs -r docker rm -f >/dev/null
        docker network rm "muster-$node-main-$app" >/dev/null 2>&1 || true
    done
    rm -rf "$dir"
}
trap cleanup EXIT

until_true() { # WHAT SECONDS COMMAND...
    local what=$1 end=$((SECONDS + $2)); shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || die "not so in time: $what"
        sleep 0.2
    done
}

start_dev() {
    "$bin/muster" dev --nodes 2 --data-dir "$dir" >"$dir/dev.log" 2>&1 & dev=$!
    until_true 'muster dev is ready' 60 grep -q '^ready nats://' "$dir/dev.log"
}

start_agent() {
    local password; password=$(sed -n 's/.*"agent.n3": "\(.*\)".*/\1/p' "$dir/users.json")
    "$bin/muster-node-agent" --node n3 --nats-url "nats://127.0.0.1:$(cat "$dir/port")" \
        --nats-password "$password" --state-dir "$dir/state" >"$dir/agent.log" 2>&1 & agent=$!
}

answers() {
    local answer
    exec 3<>"/dev/tcp/127.0.0.1/$port" || return
    printf 'GET / HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n' >&3
    answer=$(tail -n 1 <&3)
    exec 3>&-
    printf '%s\n' "$answer" && [ -n "$answer" ]
}

ready() { "$bin/muster" ps "$app" | grep -c ' ready ' | grep -qx "$1"; }
mine() { docker ps -q --no-trunc --filter "label=io.muster.app=main/$app" | sort; }

[ -x "$bin/muster" ] || die "there is no $bin/muster: run make demo"

say 'Two nodes in this process, a third as a process of its own'
start_dev
start_agent
until_true 'n3 has joined' 30 sh -c "'$bin/muster' nodes | grep -q '^n3 *ready'"
run muster nodes

say 'Deploy a Compose file with two workloads'
cat >"$dir/compose.yaml" <<YAML
name: $app
services:
  web:
    image: muster/web:1
    ports: ["$port:8080"]
    depends_on: {back: {condition: service_healthy}}
    deploy: {replicas: 3}
    x-muster: {probe: {http: {port: 8080, path: /healthz}, interval: 500ms}}
  back:
    image: muster/web:2
    environment: {GREETING: from the back}
YAML
run muster plan -f "$dir/compose.yaml"
run muster deploy -f "$dir/compose.yaml"
run muster ps

say 'It answers, on a port of every node'
answers || die "nobody answers on port $port"

say 'Scale it'
run muster scale "$app" web=5

say 'Kill a container: its next run comes'
victim=$(docker ps --filter "label=io.muster.app=main/$app" --format '{{.Names}}' | grep -m1 -e '-web-')
docker kill "$victim"
until_true 'the next run is ready' 30 sh -c "'$bin/muster' ps '$app' | grep '^${victim%-*} ' | grep -q ' ready  *2 '"
run muster ps "$app"

say 'Freeze the third agent: its replicas run elsewhere'
kill -STOP "$agent"
until_true 'all are ready elsewhere' 60 sh -c "'$bin/muster' ps '$app' | grep -v ' n3 ' | grep -c ' ready ' | grep -qx 6"
run muster ps "$app"

say 'Why?'
run muster why "$("$bin/muster" log | sed -n 's/.* \([^ ,]*\).* requested to replace.*/\1/p' | tail -n 1)"

say 'Wake it: what was replaced ends'
kill -CONT "$agent"
until_true 'there are six again' 60 ready 6
until_true 'the old ones have ended' 60 sh -c "'$bin/muster' ps '$app' | tail -n +2 | wc -l | grep -qx 6"

say 'Stop everything, start again: nothing was touched'
before=$(mine)
kill "$agent" "$dev"; wait "$agent" "$dev" || true
[ "$(mine)" = "$before" ] || die 'stopping touched containers'
start_dev
start_agent
until_true 'n3 is back' 30 sh -c "'$bin/muster' nodes | grep -q '^n3 *ready'"
sleep 3
[ "$(mine)" = "$before" ] || die 'starting touched containers'
run muster replay --verify

if [ -t 0 ] && [ -t 1 ]; then
    say "It stays up. Try: MUSTER_DEV_DIR=$dir $bin/muster ps   log -f   why REPLICA   drain n2. Enter ends it."
    read -r _
fi
run muster delete "$app"
say 'Done'
