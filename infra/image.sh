#!/usr/bin/env bash
# Makes the images that the tests and the demonstration run: tests/web/main.rs as one static binary, imported into the
# engine that DOCKER_HOST names (no registry is needed). An image that is up to date is left alone and keeps its id.
#
#   infra/image.sh [NAME:TAG ...]   default: muster/web:1 to muster/web:4, which differ in their VERSION only
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly source=tests/web/main.rs
readonly folder=.tools/web
readonly label=muster.web.sha256

say() { printf 'image: %s\n' "$*"; }
die() { printf 'image: error: %s\n' "$*" >&2; exit 1; }

# What the binary is made from, so that it is compiled again only when that changes.
recipe() { sha256sum tests/web/*.rs infra/image.sh && rustc --version; }

compile() {
  local recipe
  recipe=$(recipe)
  [[ -x $folder/web && $(cat "$folder/recipe" 2>/dev/null) == "$recipe" ]] && return
  say "compiling $source"
  mkdir -p "$folder"
  rustc --edition 2024 -O -C target-feature=+crt-static -C strip=symbols -o "$folder/web" "$source" ||
    die "rustc cannot compile $source (see above)"
  echo "$recipe" >"$folder/recipe"
}

# import NAME:TAG: the label holds the sum of all that the image is made of.
import() {
  local name=$1 tag=${1##*:}
  local changes=('ENTRYPOINT ["/web"]' 'EXPOSE 8080' "ENV VERSION=$tag") sum
  sum=$( (cat "$folder/web" && printf '%s\n' "${changes[@]}") | sha256sum | cut -d' ' -f1)
  changes+=("LABEL $label=$sum")
  if [[ $(docker image inspect --format "{{index .Config.Labels \"$label\"}}" "$name" 2>/dev/null) == "$sum" ]]; then
    say "$name is up to date"
    return
  fi
  tar -C "$folder" --owner=0 --group=0 -c web | docker import "${changes[@]/#/--change=}" - "$name" >/dev/null ||
    die "the engine cannot import $name (see above)"
  say "$name imported"
}

(($#)) || set -- muster/web:{1..4}
for name; do
  [[ $name =~ ^[a-z0-9./_-]+:[A-Za-z0-9._-]+$ ]] || die "'$name' is not a NAME:TAG, like muster/web:1"
done
command -v rustc >/dev/null || die "rustc is not on the PATH: install the Rust toolchain first"
docker version >/dev/null 2>&1 ||
  die "no engine answers at ${DOCKER_HOST:-the default socket}: run infra/setup.sh, or see DOCKER_HOST"
mkdir -p .tools
exec 9>.tools/image.lock
flock 9
compile
for name; do import "$name"; done
