#!/usr/bin/env bash
# The demo on a real Kafka broker and a real PostgreSQL, both started for it and stopped at its end: kafka-demo.sh
# Afterwards the example consumer shows the calls as the topic callchain.events tells them. CALLCHAIN_BINARY names the binary (bin/callchain).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
binary=${CALLCHAIN_BINARY:-bin/callchain}

services=$(mktemp -d)
stop_all() {
  scripts/kafka-down.sh "$services/kafka" kill
  scripts/pg-down.sh "$services/pg" immediate
  rm -rf "$services"
}
trap stop_all EXIT
trap 'exit 130' INT TERM
chmod 755 "$services" # PostgreSQL runs as a user of its own

scripts/kafka-jars.sh >/dev/null # the first time it takes a while: not while something waits for it
scripts/kafka-up.sh "$services/kafka" >"$services/brokers" &
starting=$!
store=$(scripts/pg-up.sh "$services/pg" 2>"$services/pg.log") || { cat "$services/pg.log" >&2; wait "$starting" || true; exit 1; }
wait "$starting"
brokers=$(<"$services/brokers")
"$binary" demo --store.url "$store" --bus.kafka.brokers "$brokers"

printf '\nThe same calls as others read them from the topic callchain.events (examples/consumers/go):\n\n'
go run ./examples/consumers/go --brokers "$brokers" --state "$services/positions.json" --once
