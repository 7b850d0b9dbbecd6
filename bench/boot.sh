#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# boot.sh [-n RUNS] SPORE [RUN-OPTION...]: boots Linux RUNS times and prints,
# as JSON, when each phase of the timeline was reached (ms from main, median).

set -euo pipefail
runs=5
if [ "${1:-}" = -n ]; then
  runs=$2
  shift 2
fi
spore=${1:?usage: boot.sh [-n RUNS] SPORE [RUN-OPTION...]}
shift
out=$(mktemp)
trap 'rm -f "$out"' EXIT
for _ in $(seq "$runs"); do
  "$spore" run --timings=json "$@" -- true 2>>"$out" </dev/null
done
jq -s -c '
  def median: sort | .[length / 2 | floor];
  . as $runs
  | (.[0] | keys_unsorted | map(select(. != "unit"))) as $phases
  | {bench: "boot", unit: "ms", n: length}
    + ([$phases[] | . as $p
        | {key: $p, value: ([$runs[][$p] | select(. != null)]
            | if length == 0 then null else median / 1e6 end)}]
       | from_entries)' "$out"
