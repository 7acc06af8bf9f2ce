#!/usr/bin/env bash
# Compiles the programs of an older commit into target/older/release/, for what has two releases side by side:
#
#   infra/older.sh COMMIT
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { printf 'older: error: %s\n' "$*" >&2; exit 1; }

readonly source=$PWD/target/older/source
readonly programs=(muster event-log controller scheduler autoscaler health node-agent gateway)

[[ $# -eq 1 ]] || die "it takes one argument: a commit"
commit=$(git rev-parse --verify --quiet "$1^{commit}") ||
  die "there is no commit $1 here: if this clone is shallow, git fetch --unshallow"
git worktree prune
if [[ -e $source ]]; then
  git -C "$source" checkout --quiet --detach "$commit"
else
  git worktree add --quiet --detach "$source" "$commit"
fi
cd "$source"
cargo build --release --target-dir .. "${programs[@]/#/-p}"
