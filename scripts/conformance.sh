# The black-box conformance suite against servers of its own: one by itself, and two that share Kafka and PostgreSQL, of which one has the callers and the
# HTTP devices, the other all other devices. Sourced by test.sh, sets $server and $beside; needs $work and $counts. What cannot pass yet is listed with its reason in test/conformance/later.txt.
# shellcheck shell=bash disable=SC2154

suite=${CALLCHAIN_CONFORMANCE:-$PWD/../shared/conformance}

# start_server FLAG… starts the binary on free ports with the accounts that the suite expects.
start_server() {
  local http mqtt coap lwm2m flags settings
  read -r http mqtt coap lwm2m < <(free_ports 4)
  export TARGET_URL=http://127.0.0.1:$http TARGET_MQTT=127.0.0.1:$mqtt TARGET_COAP=127.0.0.1:$coap TARGET_LWM2M=127.0.0.1:$lwm2m
  export TARGET_EMAIL=tenant@thingsboard.org TARGET_PASSWORD=tenant
  export TARGET_SYSADMIN_EMAIL=sysadmin@thingsboard.org TARGET_SYSADMIN_PASSWORD=sysadmin
  settings=(--data.dir "$results/data" --http.addr "127.0.0.1:$http" --mqtt.addr "127.0.0.1:$mqtt" "$@")
  flags=$("$CALLCHAIN_BINARY" serve --help 2>&1)
  [[ $flags == *--coap.addr* ]] && settings+=(--coap.addr "127.0.0.1:$coap")
  [[ $flags == *--lwm2m.addr* ]] && settings+=(--lwm2m.addr "127.0.0.1:$lwm2m")
  CALLCHAIN_ADMIN_EMAIL=$TARGET_EMAIL CALLCHAIN_ADMIN_PASSWORD=$TARGET_PASSWORD \
    CALLCHAIN_SYSADMIN_EMAIL=$TARGET_SYSADMIN_EMAIL CALLCHAIN_SYSADMIN_PASSWORD=$TARGET_SYSADMIN_PASSWORD \
    "$CALLCHAIN_BINARY" serve "${settings[@]}" >"$results/server.log" 2>&1 &
  server=$!
  wait_ready "$TARGET_URL" "$server"
}

# start_nodes FLAG… starts two servers that share what the flags name; the devices of MQTT and CoAP are the second one's.
start_nodes() {
  local url
  CALLCHAIN_AUTH_KEY=$(head -c 32 /dev/urandom | base64)
  export CALLCHAIN_AUTH_KEY
  start_server --node.id second "$@" || return 1
  beside=$server
  local mqtt=$TARGET_MQTT coap=$TARGET_COAP
  url=$TARGET_URL
  results=$results/first start_server --node.id first "$@" || return 1
  unset CALLCHAIN_AUTH_KEY
  export TARGET_MQTT=$mqtt TARGET_COAP=$coap
  until shared "$url" && shared "$TARGET_URL"; do
    sleep 0.2
    kill -0 "$beside" && kill -0 "$server" || return 1
  done
}

# shared URL tells whether a node owns its half of the partitions.
shared() { [[ $(curl -fsS "$1/metrics") == *$'\ncallchain_partitions_owned 32\n'* ]]; }

# run_file NAME runs one file of the suite, without what is listed for later. The results file has what failed.
run_file() {
  local python=$PWD/.run/venv-conformance/bin/python
  (cd "$suite" && PYTHONDONTWRITEBYTECODE=1 timeout 600 "$python" -m pytest -p no:cacheprovider -q "$1.py" \
    -m "not lwm2m" "${later[@]}" --junitxml "$results/$1.xml") >"$results/$1.log" 2>&1
}

# run_suite runs the files side by side: most of their time they wait, and they are made to run next to others.
run_suite() {
  local file name
  for file in "$suite"/test_*.py; do
    while [[ $(jobs -rp | wc -l) -gt $((servers + 3)) ]]; do # four files beside them
      wait -n || true                         # each tells its failures below
    done
    run_file "$(basename "$file" .py)" &
  done
  while [[ $(jobs -rp | wc -l) -gt $servers ]]; do
    wait -n || true # as above
  done
  for file in "$suite"/test_*.py; do
    name=$(basename "$file" .py)
    printf -- '-- %s\n' "$name"
    grep -Ev '^([.sxFE]+ +\[|=|$)' "$results/$name.log" # what failed and what was skipped, and the numbers
    check "results of $name" "$work/tally" -junit "$results/$name.xml" -to "$counts"
  done
}

# conform NAME SERVERS START FLAG… runs the suite against so many servers, that START starts with these flags.
conform() {
  local name=$1 servers=$2 start=$3
  shift 3
  heading "conformance, $name"
  results=$work/conformance/${name// /-}
  mkdir -p "$results/first"
  if check "conformance server, $name" "$start" "$@"; then
    run_suite
  else
    tail -n 20 "$results/server.log"
  fi
  stop_process "$server"
  stop_process "$beside"
  server='' beside=''
}

# conform_on_kafka makes a database and runs the suite against two nodes on it and on the broker of the tests.
conform_on_kafka() {
  if [[ -z ${CALLCHAIN_TEST_KAFKA:-} || -z ${CALLCHAIN_TEST_POSTGRES:-} ]] || ! command -v psql >/dev/null; then
    not_run "conformance on Kafka and PostgreSQL" "Kafka, PostgreSQL or its client psql is not there"
    return
  fi
  check "database for conformance" psql -q "$CALLCHAIN_TEST_POSTGRES" \
    -c 'drop database if exists conformance with (force)' -c 'create database conformance' || return
  conform "two nodes on Kafka and PostgreSQL" 2 start_nodes --store.url "${CALLCHAIN_TEST_POSTGRES/\/postgres\?//conformance?}" \
    --bus.kafka.brokers "$CALLCHAIN_TEST_KAFKA" --bus.kafka.prefix "conformance-$$."
}

later=()
while read -r id; do
  later+=(--deselect "$id")
done < <(sed -E 's/[[:space:]]+# .*$//; /^[[:space:]]*(#|$)/d' test/conformance/later.txt)

if [[ ! -f $suite/conftest.py ]]; then
  not_run "the conformance suite" "it is not checked out at $suite (CALLCHAIN_CONFORMANCE names another place)"
elif ! scripts/venv.sh .run/venv-conformance "$suite/requirements.txt"; then
  not_run "the conformance suite" "its Python packages could not be installed"
else
  if [[ -f $suite/requirements-sdk.txt ]] && scripts/venv.sh .run/venv-conformance-sdk "$suite/requirements-sdk.txt"; then
    export SDK_PYTHON=$PWD/.run/venv-conformance-sdk/bin/python
  else
    not_run "the device SDK tests of the conformance suite" "the SDK could not be installed"
  fi
  conform "by itself" 1 start_server
  conform_on_kafka
  not_run "LwM2M conformance" "there is no LwM2M transport yet"
fi
