#!/usr/bin/env bash
# Everything that proves the project, as `make test` runs it: lint, all Go tests with the race detector and a real PostgreSQL and Kafka,
# the end-to-end tests with the real binary, the demos, and the black-box conformance suite if it is checked out beside the project
# (CALLCHAIN_CONFORMANCE, default ../shared/conformance). Says loudly what it could not run and why, stops what it started, and
# ends with one line: N passed, N failed, N skipped. Exit status 1 if anything failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

work=$PWD/.run/test
rm -rf "$work"
mkdir -p "$work" .run
counts=$work/counts
go build -o "$work/tally" ./scripts/tally || exit 1

database=$PWD/.run/pg-test
spare= # a folder for the database outside the project, if the user postgres may not enter the project
broker=$PWD/.run/kafka-test
server=
beside=
stop_all() {
  stop_process "$server"
  stop_process "$beside"
  scripts/pg-down.sh "$database" >/dev/null 2>&1 || true # it was not up, or is down already
  if [[ -n $spare ]]; then
    rm -rf "$spare"
  fi
  scripts/kafka-down.sh "$broker" || true # as above
  rm -rf "$broker"
}
trap stop_all EXIT
trap 'exit 130' INT TERM

heading "lint"
check lint scripts/lint.sh

heading "PostgreSQL"
if ! url=$(scripts/pg-up.sh "$database" 2>"$work/pg.log"); then
  spare=$(mktemp -d)
  chmod 755 "$spare"
  database=$spare/pg
  url=$(scripts/pg-up.sh "$database" 2>>"$work/pg.log")
fi
if [[ -n $url ]]; then
  export CALLCHAIN_TEST_POSTGRES=$url
  echo "running for the tests"
else
  not_run "tests against PostgreSQL" "scripts/pg-up.sh could not start one: $(tail -n 1 "$work/pg.log")"
fi

heading "Kafka"
export KAFKA_JAVA=-XX:TieredStopAtLevel=1 # the tests start it again and again
export KAFKA_PROXIED=1 # some of them cut a node off from it
if address=$(scripts/kafka-up.sh "$broker" 2>"$work/kafka.log"); then
  export CALLCHAIN_TEST_KAFKA=$address
  CALLCHAIN_TEST_KAFKA_PROXIED=$(cat "$broker/proxied")
  export CALLCHAIN_TEST_KAFKA_PROXIED
  echo "running for the tests"
else
  not_run "tests against Kafka" "scripts/kafka-up.sh could not start a broker: $(tail -n 1 "$work/kafka.log")"
fi

heading "Python clients"
if scripts/venv.sh .run/venv test/requirements.txt; then
  export CALLCHAIN_TEST_PYTHON=$PWD/.run/venv/bin/python
else
  not_run "tests with foreign Python clients" "the packages of test/requirements.txt could not be installed"
fi
if scripts/venv.sh .run/venv-sdk test/requirements-sdk.txt; then
  export CALLCHAIN_TEST_SDK_PYTHON=$PWD/.run/venv-sdk/bin/python
else
  not_run "tests with ThingsBoard's device SDK" "the packages of test/requirements-sdk.txt could not be installed"
fi

heading "command-line clients"
if ! scripts/clients.sh >"$work/clients.log" 2>&1; then
  not_run "tests with command-line clients" "not all of them are installed ($(tail -n 1 "$work/clients.log"))"
fi

heading "AsyncAPI"
scripts/asyncapi.sh >"$work/asyncapi.log" 2>&1
asyncapi=$?
cat "$work/asyncapi.log"
if [[ $asyncapi == 2 ]]; then
  not_run "validation of docs/asyncapi.yaml" "the validator could not be had: $(tail -n 1 "$work/asyncapi.log")"
else
  check AsyncAPI test "$asyncapi" = 0
fi

heading "deploy/"
check deploy env CALLCHAIN_NOT_RUN="$work/not-run" scripts/deploy-check.sh

heading "Go tests, race detector on"
mapfile -t packages < <(go list ./... | grep -Ev '/(test/e2e|engine/bus/kafka)$')
go test -race -json -timeout 15m "${packages[@]}" 2>&1 | "$work/tally" -to "$counts"

# From here on one package at a time, because these stop and kill the services that the others use.
if [[ -n ${CALLCHAIN_TEST_POSTGRES:-} ]]; then export CALLCHAIN_TEST_POSTGRES_CTL=$database/ctl; fi
if [[ -n ${CALLCHAIN_TEST_KAFKA:-} ]]; then export CALLCHAIN_TEST_KAFKA_CTL=$broker/ctl; fi
services_up() { # a failed test may have left them down
  [[ -z ${CALLCHAIN_TEST_POSTGRES_CTL:-} ]] || "$CALLCHAIN_TEST_POSTGRES_CTL" start >/dev/null
  [[ -z ${CALLCHAIN_TEST_KAFKA_CTL:-} ]] || "$CALLCHAIN_TEST_KAFKA_CTL" start >/dev/null
}
heading "the Kafka bus, race detector on"
go test -race -json -timeout 10m ./engine/bus/kafka 2>&1 | "$work/tally" -to "$counts"

heading "the binary"
if check build make --no-print-directory build; then
  export CALLCHAIN_BINARY=$PWD/bin/callchain
  services_up
  heading "end-to-end tests"
  if [[ -d test/e2e ]]; then
    go test -json -count=1 -timeout 30m ./test/e2e/... 2>&1 | "$work/tally" -to "$counts"
  fi
  heading "demo"
  check demo timeout 120 "$CALLCHAIN_BINARY" demo
  if [[ -n ${CALLCHAIN_TEST_KAFKA:-} && -n ${CALLCHAIN_TEST_POSTGRES:-} ]]; then
    heading "demo on Kafka and PostgreSQL"
    check "demo on Kafka and PostgreSQL" timeout 120 scripts/kafka-demo.sh
    heading "a cluster whose nodes come and go"
    check "a cluster whose nodes come and go" timeout 240 scripts/cluster.sh
  fi
  services_up
  source scripts/conformance.sh
fi

heading "result"
if [[ -s $work/not-run ]]; then
  echo "NOT RUN:"
  sed 's/^/  /' "$work/not-run"
fi
"$work/tally" -sum "$counts"
