#!/usr/bin/env bash
# Three nodes on one Kafka broker and one PostgreSQL, all started for it and stopped at its end, under a small load through all three:
# one node is killed and comes back, another one leaves; a table tells what callers and devices see of it: cluster.sh
# Logs of the nodes stay in .run/cluster. Exit status 1 if a call was lost whose success was returned, or if the events do not verify.
# CALLCHAIN_BINARY names the binary (bin/callchain).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh
binary=${CALLCHAIN_BINARY:-bin/callchain}

home=$PWD/.run/cluster
mkdir -p .run
exec 8>.run/cluster.lock
flock -n 8 || { echo "cluster: another run works in $home: wait for its end" >&2; exit 1; }
database=$home/pg
spare= # a folder for the database outside the project, if the user postgres may not enter the project
nodes=("" "" "") # the processes
watcher=
stop_all() {
  set +e           # what cannot be stopped keeps nothing else running
  trap '' INT TERM # once is enough
  stop_process "$watcher"
  for node in "${nodes[@]}"; do [[ -z $node ]] || kill "$node" 2>/dev/null; done # all at once
  for node in "${nodes[@]}"; do stop_process "$node"; done
  scripts/kafka-down.sh "$home/kafka" kill
  scripts/pg-down.sh "$database" immediate
  rm -rf "$home/kafka" "$home/pg" "$home/config" "$home/password" "$home"/node-?/
  if [[ -n $spare ]]; then rm -rf "$spare"; fi
}
trap stop_all EXIT
trap 'exit 130' INT TERM
scripts/kafka-down.sh "$home/kafka" kill # what a run left that was killed
scripts/pg-down.sh "$database" immediate
rm -rf "$home"
mkdir -p "$home"

scripts/kafka-jars.sh >/dev/null # the first time it takes a while: not while something waits for it
scripts/kafka-up.sh "$home/kafka" >"$home/brokers" 8>&- &
starting=$!
if ! store=$(scripts/pg-up.sh "$database" 2>"$home/pg.log" 8>&-); then
  spare=$(mktemp -d)
  chmod 755 "$spare"
  database=$spare/pg
  store=$(scripts/pg-up.sh "$database" 8>&-) || { wait "$starting" || true; exit 1; }
fi
wait "$starting"

random() { head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }
CALLCHAIN_AUTH_KEY=$(random)
CALLCHAIN_ADMIN_PASSWORD=$(random)
CALLCHAIN_STORE_URL=$store
CALLCHAIN_BUS_KAFKA_BROKERS=$(<"$home/brokers")
export CALLCHAIN_AUTH_KEY CALLCHAIN_ADMIN_PASSWORD CALLCHAIN_STORE_URL CALLCHAIN_BUS_KAFKA_BROKERS # in the environment nobody else sees them
unset CALLCHAIN_URL CALLCHAIN_TOKEN # of another server
read -ra ports < <(free_ports 6)
urls=() mqtts=()
for i in 0 1 2; do
  urls+=("http://127.0.0.1:${ports[2 * i]}")
  mqtts+=("127.0.0.1:${ports[2 * i + 1]}")
done

# start_node I starts node-(I+1) on its ports, as an operator would after a crash.
start_node() {
  "$binary" serve --node.id "node-$(($1 + 1))" --data.dir "$home/node-$(($1 + 1))" --http.addr "${urls[$1]#http://}" --mqtt.addr "${mqtts[$1]}" \
    --coap.addr "" >>"$home/node-$(($1 + 1)).log" 2>&1 8>&- &
  nodes[$1]=$!
}
await_node() {
  wait_ready "${urls[$1]}" "${nodes[$1]}" && return
  tail -n 5 "$home/node-$(($1 + 1)).log" >&2
  return 1
}
start_node 0
await_node 0 # it makes the tables and the topics
start_node 1
start_node 2
await_node 1
await_node 2
export XDG_CONFIG_HOME=$home/config # the login of whoever runs this stays
(umask 077 && echo "$CALLCHAIN_ADMIN_PASSWORD" >"$home/password")
"$binary" login --url "${urls[0]}" --password-file "$home/password" >/dev/null
printf 'node-%s: REST on %s, MQTT on %s\n' 1 "${urls[0]}" "${mqtts[0]}" 2 "${urls[1]}" "${mqtts[1]}" 3 "${urls[2]}" "${mqtts[2]}"

# The table is the clock of what happens.
coproc watch {
  exec "$binary" bench cluster --urls "$(IFS=,; echo "${urls[*]}")" --mqtt "$(IFS=,; echo "${mqtts[*]}")" --duration 24s 8>&-
}
watcher=$watch_PID
exec 7>&"${watch[1]}" 6<&"${watch[0]}"
while IFS= read -r line <&6; do
  printf '%s\n' "$line"
  read -r second _ <<<"$line"
  case $second in
    4)
      kill -9 "${nodes[1]}"
      wait "${nodes[1]}" 2>/dev/null || true # the shell says nothing of its death then
      nodes[1]=
      echo "kill -9 node-2" >&7
      ;;
    12)
      start_node 1
      echo "node-2 is started again" >&7
      ;;
    18)
      kill "${nodes[2]}"
      echo "SIGTERM to node-3" >&7
      ;;
  esac
done
status=0
wait "$watcher" || status=$?
watcher=
"$binary" events verify || status=1
exit "$status"
