#!/usr/bin/env bash
# Writes per second on a local site of three agents, as JSON lines: one per number of
# clients. `flotilla bench --help` says what is counted.
#
#   deploy/bench/bench.sh [BIN_DIR] [SECONDS]
set -euo pipefail

bin=${1:-target/release}
seconds=${2:-10}
data=$(mktemp -d -t flotilla-bench-XXXXXX)

finish() {
    "$bin/flotilla" dev stop --data "$data" >&2 || true
    rm -rf "$data"
}
trap finish EXIT

"$bin/flotilla" dev --site bench --agents 3 --data "$data" --detach >&2
FLOTILLA_SERVER=$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["nats_url"])' "$data/dev.json")
export FLOTILLA_SERVER FLOTILLA_SITE=bench

for clients in 1 64 256; do
    "$bin/flotilla" bench --clients "$clients" --seconds "$seconds"
done
