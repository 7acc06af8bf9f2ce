#!/usr/bin/env bash
# Runs every test of the workspace and ends with one line that counts them: 'N passed, N failed'.
# Its status is cargo's. It expects what infra/setup.sh and infra/image.sh make.
#
#   infra/test.sh [ARGUMENT ...]   arguments go to cargo test, for example: -p schemas, or -- --nocapture
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

# The tests of whole processes run the binaries, which cargo test alone does not make.
cargo build --workspace || exit

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Shown and kept at once. The end of tee is not waited for: a process that a test left behind would delay it for ever.
exec 3> >(exec tee "$log")
tee=$!
cargo test --workspace --no-fail-fast "$@" >&3 2>&1 3>&-
status=$?
exec 3>&-
for _ in {1..20}; do
  kill -0 "$tee" 2>/dev/null || break
  sleep 0.1
done
if kill "$tee" 2>/dev/null; then
  echo "test: a process that a test started has outlived the tests: it still holds their output"
fi

# count WORD: the sum of that word's numbers over lines like 'test result: ok. 5 passed; 0 failed; ...'.
count() { sed -nE "s/^test result: .* ([0-9]+) $1;.*/\1/p" "$log" | awk '{ sum += $1 } END { print sum + 0 }'; }

failed=$(count failed)
ignored=$(count ignored)
((ignored == 0)) || echo "test: $ignored ignored"
if ((status != 0 && failed == 0)); then
  echo "test: cargo ended with $status although no test reported a failure: something does not compile, or a test process died (see above)"
fi
echo "$(count passed) passed, $failed failed"
exit "$status"
