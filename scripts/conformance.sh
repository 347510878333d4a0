# The black-box conformance suite against a server of its own; sourced by test.sh, sets $server.
# What cannot pass yet is listed with its reason in test/conformance/later.txt.
# shellcheck shell=bash

suite=${CALLCHAIN_CONFORMANCE:-$PWD/../shared/conformance}

# start_server NAME=VALUE… starts the binary on free ports with the accounts that the suite expects.
start_server() {
  local http mqtt coap lwm2m settings
  read -r http mqtt coap lwm2m < <(free_ports 4)
  export TARGET_URL=http://127.0.0.1:$http TARGET_MQTT=127.0.0.1:$mqtt TARGET_COAP=127.0.0.1:$coap TARGET_LWM2M=127.0.0.1:$lwm2m
  export TARGET_EMAIL=tenant@thingsboard.org TARGET_PASSWORD=tenant
  export TARGET_SYSADMIN_EMAIL=sysadmin@thingsboard.org TARGET_SYSADMIN_PASSWORD=sysadmin
  settings=(--data.dir "$work/conformance-data" --http.addr "127.0.0.1:$http" --mqtt.addr "127.0.0.1:$mqtt")
  local flags
  flags=$("$CALLCHAIN_BINARY" serve --help 2>&1)
  [[ $flags == *--coap.addr* ]] && settings+=(--coap.addr "127.0.0.1:$coap")
  [[ $flags == *--lwm2m.addr* ]] && settings+=(--lwm2m.addr "127.0.0.1:$lwm2m")
  CALLCHAIN_ADMIN_EMAIL=$TARGET_EMAIL CALLCHAIN_ADMIN_PASSWORD=$TARGET_PASSWORD \
    CALLCHAIN_SYSADMIN_EMAIL=$TARGET_SYSADMIN_EMAIL CALLCHAIN_SYSADMIN_PASSWORD=$TARGET_SYSADMIN_PASSWORD \
    "$CALLCHAIN_BINARY" serve "${settings[@]}" >"$work/conformance-server.log" 2>&1 &
  server=$!
  wait_ready "$TARGET_URL" "$server"
}

# run_suite runs the everyday path of the suite, without what is listed for later.
run_suite() {
  local skip=() id
  while read -r id; do
    skip+=(--deselect "$id")
  done < <(sed -E 's/[[:space:]]+# .*$//; /^[[:space:]]*(#|$)/d' test/conformance/later.txt)
  local python=$PWD/.run/venv-conformance/bin/python
  (cd "$suite" && PYTHONDONTWRITEBYTECODE=1 timeout 900 "$python" -m pytest -p no:cacheprovider -q -m "core and not lwm2m" \
    "${skip[@]}" --junitxml "$work/conformance.xml")
}

if [[ ! -f $suite/conftest.py ]]; then
  not_run "the conformance suite" "it is not checked out at $suite (CALLCHAIN_CONFORMANCE names another place)"
elif ! scripts/venv.sh .run/venv-conformance "$suite/requirements.txt"; then
  not_run "the conformance suite" "its Python packages could not be installed"
elif ! check "conformance server" start_server; then
  tail -n 20 "$work/conformance-server.log"
else
  if [[ -f $suite/requirements-sdk.txt ]] && scripts/venv.sh .run/venv-sdk "$suite/requirements-sdk.txt"; then
    export SDK_PYTHON=$PWD/.run/venv-sdk/bin/python
  else
    not_run "the device SDK tests of the conformance suite" "the SDK could not be installed"
  fi
  run_suite || true # the results file has what failed
  check "conformance results" "$work/tally" -junit "$work/conformance.xml" -to "$counts"
  not_run "LwM2M conformance" "there is no LwM2M transport yet"
  stop_process "$server"
  server=
fi
