#!/usr/bin/env bash
# Installs what `make bench-gateway` measures beside: HAProxy, nginx and a load generator, from Debian. Their services
# are not started, and are stopped and disabled where their packages started them.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

readonly packages=(haproxy nginx-light libnginx-mod-stream nghttp2-client openssl)

die() { printf 'rivals: error: %s\n' "$*" >&2; exit 1; }

present() {
  local package
  for package in "${packages[@]}"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || return 1
  done
}

present && exit
[[ $EUID -eq 0 ]] || die "run as root to install ${packages[*]}"
apt-get -q update || printf 'rivals: going on with the package lists there are\n' >&2
DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends \
  "${packages[@]}" || die "apt-get install failed (see above): check /etc/apt and the network"
for service in haproxy nginx; do
  if [[ -d /run/systemd/system ]]; then
    systemctl disable --now "$service" || die "cannot stop the $service that its package started (see above)"
  else
    update-rc.d "$service" disable >/dev/null 2>&1 || true
  fi
done
present || die "not installed after all: ${packages[*]}"
