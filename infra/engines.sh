#!/usr/bin/env bash
# Several container engines on one machine, each as if on a host of its own: a network namespace with one link to a
# bridge, its own dockerd, containerd, images and containers. It serves the multi-host tests; it needs root.
#
#   infra/engines.sh up N        start engines e1 to eN and print them
#   infra/engines.sh list        print them again
#   infra/engines.sh cut NAME    pull the link of an engine: its containers run on, nothing reaches it
#   infra/engines.sh heal NAME   plug it in again
#   infra/engines.sh slow NAME MS  have what goes to an engine, and what comes from it, take MS milliseconds longer
#   infra/engines.sh start NAME  start an engine again whose dockerd was killed
#   infra/engines.sh down        end the engines and all that runs in their namespaces; leave nothing behind
#
# One line is printed per engine: name=, address= (in its namespace), host= (this machine, as seen from there),
# netns= (for nsenter --net=), docker_host= (its socket, which a cut does not touch) and pidfile=.
# State is kept in MUSTER_ENGINES_DIR (default: muster-engines in the folder for temporary files). Engines of different
# folders do not disturb each other.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

readonly dir=${MUSTER_ENGINES_DIR:-${TMPDIR:-/tmp}/muster-engines}
readonly marker=$dir/made-by-engines.sh
readonly most=20 # engines
readonly wait=60 # seconds, for an engine to answer

# What is global on a machine (links, namespaces, addresses, control groups) is named after the folder.
id=$(sha256sum <<<"$dir" | cut -c1-4)
readonly prefix=muster-$id
readonly bridge=mu$id
# From 10.170.0.0 on are the ranges in which gateways serve workloads by name.
readonly network=10.$((0x${id:0:2} % 150 + 20)).$((0x${id:2:2}))
readonly forwarding=(FORWARD -i "$bridge" -o "$bridge" -j ACCEPT)

die() { printf 'engines: error: %s\n' "$*" >&2; exit 1; }

netns() { echo "/run/netns/$prefix-$1"; }
link() { echo "$bridge-$1"; }

known() {
  [[ -n ${1-} ]] || die "which engine? see infra/engines.sh list"
  [[ -d $dir/$1 && -e $(netns "$1") ]] || die "there is no engine '$1' in $dir: see infra/engines.sh list"
}

make_bridge() {
  ip link add "$bridge" type bridge
  ip address add "$network.1/24" dev "$bridge"
  ip link set "$bridge" up
  # The machine's own engine makes dropping the default for what crosses a bridge.
  iptables -w -I "${forwarding[@]}"
}

make_namespace() { # NAME ADDRESS
  ip netns add "$prefix-$1"
  ip link add "$(link "$1")" type veth peer name eth0 netns "$prefix-$1"
  ip link set "$(link "$1")" master "$bridge" up
  ip -n "$prefix-$1" link set lo up
  ip -n "$prefix-$1" address add "$2/24" dev eth0
  ip -n "$prefix-$1" link set eth0 up
  ip -n "$prefix-$1" route add default via "$network.1"
}

declare -A started # the process of each engine that this run has started

start_engine() { # NAME
  local home=$dir/$1
  mkdir -p "$home"
  echo '{}' >"$home/daemon.json" # not the machine's own
  # nsenter and not ip netns exec, which mounts a /sys without the control groups.
  nsenter --net="$(netns "$1")" setsid nohup dockerd \
    --host "unix://$home/docker.sock" --pidfile "$home/docker.pid" \
    --data-root "$home/data" --exec-root "$home/exec" --group root --config-file "$home/daemon.json" \
    --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$prefix/$1" \
    >"$home/dockerd.log" 2>&1 </dev/null &
  started[$1]=$!
}

await_engine() { # NAME
  local tries
  for ((tries = 0; tries < wait * 5; tries++)); do
    timeout 10 docker -H "unix://$dir/$1/docker.sock" version >/dev/null 2>&1 && return
    kill -0 "${started[$1]}" 2>/dev/null || break
    sleep 0.2
  done
  tail -n 20 "$dir/$1/dockerd.log" >&2 || true
  die "engine $1 does not answer on $dir/$1/docker.sock within $wait s: its last log lines are above"
}

# restart_engine NAME: after its dockerd was killed, with which its containerd ends and its containers do not.
restart_engine() {
  local pidfile tries
  for pidfile in "$dir/$1/docker.pid" "$dir/$1/exec/containerd/containerd.pid"; do
    for ((tries = 0; tries < 50; tries++)); do
      # Gone, or dead and not waited for by whoever inherited it.
      grep -qs '^State:.[^ZX]' "/proc/$(cat "$pidfile" 2>/dev/null)/status" || break
      sleep 0.1
    done
    ((tries < 50)) || die "the dockerd of $1 runs: kill it first (see $pidfile)"
    rm -f "$pidfile" # a dead process's number is taken for a living one
  done
  start_engine "$1"
  await_engine "$1"
}

up() {
  local count=${1-} i
  [[ $count =~ ^[1-9][0-9]?$ && $count -le $most ]] || die "how many engines? up needs a number from 1 to $most"
  # A containerd socket lies 31 characters below, and a socket's path has 107 at most.
  [[ $dir =~ ^/[A-Za-z0-9._/-]{1,70}$ ]] ||
    die "MUSTER_ENGINES_DIR is '$dir': it must be an absolute path of at most 71 plain characters"
  [[ ! -e $dir ]] || die "$dir exists: run infra/engines.sh down first, or set MUSTER_ENGINES_DIR to another folder"
  for i in dockerd docker nsenter ip iptables; do
    command -v "$i" >/dev/null || die "$i is not installed: run infra/setup.sh"
  done
  mkdir -p "$dir"
  touch "$marker"
  trap 'down >&2' EXIT # until all is well
  make_bridge
  for ((i = 1; i <= count; i++)); do
    make_namespace "e$i" "$network.$((i + 10))"
    start_engine "e$i"
    echo "name=e$i address=$network.$((i + 10)) host=$network.1 netns=$(netns "e$i")" \
      "docker_host=unix://$dir/e$i/docker.sock pidfile=$dir/e$i/docker.pid" >>"$dir/list"
  done
  for ((i = 1; i <= count; i++)); do await_engine "e$i"; done
  trap - EXIT
  cat "$dir/list"
}

# slow NAME MS: its link gets a wire of our own in its midst, and has it until the engines go down.
slow() {
  local name=$1 ms=${2-} tap wire tries
  [[ $ms =~ ^[1-9][0-9]{0,2}$ ]] || die "how slow? slow needs an engine and milliseconds, from 1 to 999"
  command -v python3 >/dev/null || die "python3 is not installed: run infra/setup.sh"
  tap=$(link "$name")s
  wire=$(dirname "$(readlink -f "$0")")/slow.py
  [[ ! -e /sys/class/net/$tap ]] || die "the link of $name is slow already"
  nsenter --net="$(netns "$name")" python3 "$wire" plain eth0
  ip tuntap add dev "$tap" mode tap
  ip link set "$(link "$name")" nomaster
  ip link set "$tap" master "$bridge" up
  setsid nohup python3 "$wire" wire "$(link "$name")" "$tap" "$ms" "$dir/$name/slow.pid" \
    >"$dir/$name/slow.log" 2>&1 </dev/null &
  for ((tries = 0; tries < 10; tries++)); do
    # Nobody listens there: whoever is reached says so at once.
    timeout 1 bash -c ": </dev/tcp/$(address "$name")/1" 2>/dev/null || (($? == 124)) || return 0
  done
  die "nothing gets to $name any more: $(tail -n 3 "$dir/$name/slow.log")"
}

address() { sed -n "s/^name=$1 address=\([^ ]*\) .*/\1/p" "$dir/list"; }

# The processes that belong to our namespaces (dockerd, containerd, its shims, what a test started there), to our control
# groups (the containers), and to our folder, should its namespace have lost its name.
processes() {
  local ns file
  for ns in "/run/netns/$prefix"-*; do
    [[ ! -e $ns ]] || ip netns pids "${ns##*/}"
  done
  find /sys/fs/cgroup -path "*/$prefix/*" -name cgroup.procs -exec cat {} + 2>/dev/null || true
  while read -r file; do
    file=${file%/cmdline}
    case $(cat "$file/comm" 2>/dev/null) in
      dockerd | containerd | containerd-shim* | python3*) echo "${file#/proc/}" ;;
    esac
  done < <(grep -lsF -- "$dir/" /proc/[0-9]*/cmdline)
}

# end SIGNAL SECONDS: sends it to all of them, and waits until they are gone.
end() {
  local tries pids
  for ((tries = 0; tries < $2 * 10; tries++)); do
    mapfile -t pids < <(processes | sort -un)
    ((${#pids[@]})) || return 0
    ((tries % 10)) || kill -s "$1" "${pids[@]}" 2>/dev/null || true
    sleep 0.1
  done
  return 1
}

down() {
  local target ns
  if [[ -e $dir && ! -e $marker ]]; then
    die "$dir was not made by infra/engines.sh: look at it, and remove it by hand"
  fi
  end KILL 30 || die "these processes do not end: $(processes | sort -un | tr '\n' ' ')"
  while iptables -w -D "${forwarding[@]}" 2>/dev/null; do :; done
  for ns in "/run/netns/$prefix"-*; do
    [[ ! -e $ns ]] || ip netns delete "${ns##*/}"
  done
  for target in /sys/class/net/"$bridge" /sys/class/net/"$bridge"-*; do
    [[ ! -e $target ]] || ip link delete "${target##*/}" 2>/dev/null || true
  done
  # The latest mounts first: some lie on others.
  for target in $(awk -v top="$dir/" 'index($5, top) == 1 { print $5 }' /proc/self/mountinfo | tac); do
    umount --lazy "$target"
  done
  find /sys/fs/cgroup -depth -type d \( -path "*/$prefix/*" -o -path "*/$prefix" \) -exec rmdir {} + 2>/dev/null || true
  rm -rf --one-file-system "$dir"
}

[[ $EUID -eq 0 ]] || die "needs root, for network namespaces and engines"
case ${1-} in
  up) up "${2-}" ;;
  list) [[ -e $dir/list ]] || die "no engines are up in $dir"; cat "$dir/list" ;;
  cut) known "${2-}"; ip link set "$(link "$2")" down ;;
  slow) known "${2-}"; slow "$2" "${3-}" ;;
  start) known "${2-}"; restart_engine "$2" ;;
  heal) known "${2-}"; ip link set "$(link "$2")" up ;;
  down) down ;;
  *) die "usage: infra/engines.sh up N | list | cut NAME | heal NAME | slow NAME MS | start NAME | down" ;;
esac
