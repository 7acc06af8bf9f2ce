#!/usr/bin/env bash
# Compiles what is installed, into target/dist/: the code of all crates optimized together, and of the gateway, which
# every request goes through, the ways that are taken under load before others. Which those are is found out first: a
# gateway that counts them is compiled, and put under the load of `make bench-gateway`.
#
#   infra/dist.sh           everything
#   infra/dist.sh gateway   the gateway alone
#
# Needs what infra/setup.sh and infra/rivals.sh install, and llvm-profdata of rustc's version of LLVM: the toolchain's
# own (rustup component add llvm-tools), Debian's, or one that is fetched into .tools/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly tools=$PWD/.tools
readonly work=$PWD/target/profile
readonly others=(muster event-log controller scheduler autoscaler health node-agent)

say() { printf 'dist: %s\n' "$*"; }
die() { printf 'dist: error: %s\n' "$*" >&2; exit 1; }
# shellcheck source=infra/unstable.sh
source infra/unstable.sh

host=$(rustc -vV | sed -n 's/^host: //p')
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
readonly host llvm

# llvm-profdata with these arguments.
profdata() {
  local own fetched=$tools/llvm-$llvm loader
  own=$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata
  if [[ -x $own ]]; then
    "$own" "$@"
  elif command -v "llvm-profdata-$llvm" >/dev/null; then
    "llvm-profdata-$llvm" "$@"
  else
    [[ -d $fetched ]] || unpack_unstable "$fetched" "llvm-$llvm" --whole
    # It was linked against a newer C library than this machine may have, and so runs with that one.
    loader=("$fetched"/usr/lib/*/ld-linux-*)
    "${loader[0]}" --library-path "$(printf '%s:' "$fetched"/usr/lib/*-linux-gnu*)" \
      "$fetched/usr/lib/llvm-$llvm/bin/llvm-profdata" "$@"
  fi
}

# gateway FOLDER FLAG: compiles the gateway with this flag for every crate in it.
gateway() {
  RUSTFLAGS=$2 cargo build --profile dist -p gateway --target "$host" --target-dir "$work/$1"
}

# Has the gateway that counts under load, unless that was done since it was compiled.
train() {
  local counting=$work/counting/$host/dist/muster-gateway
  [[ $counting -nt $work/gateway.profdata ]] || return 0
  say "putting the gateway under load (figures of the one that counts: target/profile/load.log)"
  rm -rf "$work/counts"
  LLVM_PROFILE_FILE=$work/counts/%p.profraw target/release/muster-bench --only gateway --gateway "$counting" \
    --repeat 1 >"$work/load.log" 2>&1 || { tail -n 20 "$work/load.log" >&2; die "the load failed (see above)"; }
  compgen -G "$work/counts/*.profraw" >/dev/null || die "the gateway that counts left no counts in target/profile/counts"
  profdata merge --output "$work/gateway.profdata" "$work"/counts/*.profraw
}

case ${1-} in
  '' | gateway) ;;
  *) die "unknown argument '$1': the only one is gateway" ;;
esac

cargo build --release -p bench
gateway counting "-Cprofile-generate=$work/counts"
train
gateway counted "-Cprofile-use=$work/gateway.profdata"
[[ ${1-} == gateway ]] || cargo build --profile dist "${others[@]/#/-p}"
mkdir -p target/dist
cp "$work/counted/$host/dist/muster-gateway" target/dist/
say "done: target/dist/"
