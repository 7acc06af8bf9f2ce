#!/usr/bin/env bash
# Makes a bare Debian machine ready to build, test and run Muster: Debian packages, a running container engine, and,
# under .tools/, a nats-server that is new enough and a Python environment with a NATS client.
#
#   infra/setup.sh           does what is missing; safe to run again; needs root only if something is missing
#   infra/setup.sh --check   says what is missing and changes nothing; ends with 1 if anything is
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/sbin:/sbin

readonly tools=$PWD/.tools
readonly socket=/var/run/docker.sock
readonly engine_log=$tools/dockerd.log
readonly engine_wait=60 # seconds
readonly nats_oldest=2.15.0
readonly nats_py=2.16.0

# Each line: a Debian package, and a command that succeeds when what we need of it is there, from wherever it came.
# shellcheck disable=SC2016 # the probes are expanded where they run
readonly packages='
ca-certificates  test -e /etc/ssl/certs/ca-certificates.crt
docker.io        command -v dockerd
docker-registry  command -v docker-registry
iptables         command -v iptables
iproute2         command -v ip
nftables         command -v nft
util-linux       command -v nsenter
procps           command -v ps
busybox-static   command -v busybox
pebble           command -v pebble
curl             command -v curl
openssl          command -v openssl
gcc              command -v cc
libc6-dev        test -e /usr/lib/$(uname -m)-linux-gnu/libc.a
python3-venv     /usr/bin/python3 -c "import ensurepip, venv"
'

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

# shellcheck source=infra/unstable.sh
source infra/unstable.sh

missing_packages() {
  local package probe
  while read -r package probe; do
    [[ -z $package ]] || bash -c "$probe" >/dev/null 2>&1 || echo "$package"
  done <<<"$packages"
}

have_docker_cli() { command -v docker >/dev/null; }

have_nats() {
  local version
  version=$("$tools/nats-server" --version 2>/dev/null) && dpkg --compare-versions "${version##*v}" ge "$nats_oldest"
}

have_python() {
  "$tools/venv/bin/python" -c "import sys, nats, importlib.metadata as m; sys.exit(m.version('nats-py') != '$nats_py')" \
    2>/dev/null
}

have_engine() { timeout 10 docker -H "unix://$socket" version >/dev/null 2>&1; }

apt_lists_updated=
apt_update() {
  [[ -z $apt_lists_updated ]] || return 0
  apt_lists_updated=1
  # One broken source of others must not stop us: what we cannot do without will say so itself.
  retry apt-get -q update --error-on=any || say "apt-get update failed (see above): going on with the package lists there are" >&2
}

apt_install() {
  apt_update
  say "installing $*"
  DEBIAN_FRONTEND=noninteractive retry apt-get -q -y -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 \
    install --no-install-recommends "$@" || die "apt-get install failed for: $* (see above): check /etc/apt and the network"
}

install_packages() {
  local missing
  mapfile -t missing < <(missing_packages)
  ((${#missing[@]} == 0)) || apt_install "${missing[@]}"
  # Only its program is for the tests; Debian also starts it, on a port that anyone may write to.
  if [[ " ${missing[*]} " == *" docker-registry "* ]] && [[ -d /run/systemd/system ]]; then
    systemctl disable --now docker-registry || die "cannot stop the docker-registry that its package started (see above)"
  fi
  have_docker_cli || apt_install docker-cli # newer Debian releases have the command in a package of its own
  mapfile -t missing < <(missing_packages)
  ((${#missing[@]} == 0)) || die "still not usable after installing: ${missing[*]} (what each must provide: infra/setup.sh, 'packages')"
}

# bookworm's nats-server lacks what we need, and unstable's is one static binary.
install_nats() {
  unpack_unstable "$tools/nats" nats-server
  mv -f "$tools/nats/usr/sbin/nats-server" "$tools/nats-server"
  rm -rf "$tools/nats"
  have_nats || die "$tools/nats-server is '$("$tools/nats-server" --version 2>&1 || true)', not $nats_oldest or newer"
}

install_python() {
  say "installing nats-py $nats_py into .tools/venv"
  /usr/bin/python3 -m venv --clear "$tools/venv" || die "cannot create $tools/venv (see above)"
  retry "$tools/venv/bin/pip" install --quiet --disable-pip-version-check "nats-py==$nats_py" ||
    die "pip cannot install nats-py $nats_py (see above): check the network"
  have_python || die "$tools/venv has no usable nats-py $nats_py: delete the folder and run this again"
}

# The dockerd that the pid file names, if it lives. Without systemd /var/run may outlive a reboot, and then the pid files
# name unrelated processes, for which dockerd would refuse to start: those files are removed.
running_dockerd() {
  local file pid
  for file in /var/run/docker/containerd/containerd.pid /var/run/docker.pid; do
    [[ -s $file ]] || continue
    pid=$(<"$file")
    case $(cat "/proc/$pid/comm" 2>/dev/null) in
      dockerd) echo "$pid" ;;
      containerd) ;;
      *) rm -f "$file" ;;
    esac
  done
}

start_engine() {
  local pid waited
  pid=$(running_dockerd)
  if [[ -z $pid ]]; then
    say "starting dockerd (log: .tools/dockerd.log)"
    setsid nohup dockerd >"$engine_log" 2>&1 </dev/null 9>&- &
    pid=$!
  fi
  for ((waited = 0; waited < engine_wait * 2; waited++)); do
    have_engine && return
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.5
  done
  tail -n 20 "$engine_log" >&2 || true
  die "dockerd (pid $pid) does not answer on $socket: its last log lines are above, the rest in $engine_log"
}

check() {
  local package missing=()
  mapfile -t missing < <(missing_packages)
  have_docker_cli || missing+=("docker (the command)")
  have_engine || missing+=("a container engine answering on $socket")
  have_nats || missing+=(".tools/nats-server $nats_oldest or newer")
  have_python || missing+=("nats-py $nats_py in .tools/venv")
  for package in "${missing[@]}"; do say "missing: $package"; done
  ((${#missing[@]} == 0))
}

for command in cargo rustc; do
  command -v "$command" >/dev/null || die "$command is not on the PATH: install the Rust toolchain (rustup) first"
done

case ${1-} in
  '') ;;
  --check) check && say "nothing is missing" && exit; exit 1 ;;
  *) die "unknown argument '$1': the only one is --check" ;;
esac

check >/dev/null && { say "everything is in place"; exit; }
[[ $EUID -eq 0 ]] || { check || true; die "run as root to get what is missing"; }
mkdir -p "$tools"
exec 9>"$tools/setup.lock"
flock -w 600 9 || die "another set-up has held $tools/setup.lock for ten minutes: look for a running infra/setup.sh"
install_packages
have_nats || install_nats
have_python || install_python
have_engine || start_engine
say "done: $("$tools/nats-server" --version), engine $(docker -H "unix://$socket" version --format '{{.Server.Version}}')"
