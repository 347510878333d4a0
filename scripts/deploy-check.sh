#!/usr/bin/env bash
# Checks what is in deploy/ with the tools that will read it: deploy-check.sh
# Without a machine of containers or a cluster: nothing is built, pulled or started. What cannot be had is named as not run.
# CALLCHAIN_NOT_RUN names a file for these names and reasons; without it the exit status tells of what ran only.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
bin=$PWD/.run/bin venv=$PWD/.run/venv-deploy
kubernetes=1.34.0
status=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

good() { echo "ok   $1"; }
bad() {
  echo "FAIL $1"
  [[ -z ${2:-} ]] || sed 's/^/       /' "$2"
  status=1
}
not_run() {
  echo "*** NOT RUN: $1: $2 ***"
  [[ -z ${CALLCHAIN_NOT_RUN:-} ]] || printf '%s: %s\n' "$1" "$2" >>"$CALLCHAIN_NOT_RUN"
}

# passes NAME COMMAND… and fails NAME TEXT COMMAND… run a command that has to succeed, or to fail with a text.
passes() {
  local name=$1
  shift
  if "$@" >"$work/out" 2>&1; then good "$name"; else bad "$name" "$work/out"; fi
}
fails() {
  local name=$1 text=$2
  shift 2
  if ! "$@" >"$work/out" 2>&1 && grep -qF -- "$text" "$work/out"; then good "$name"; else bad "$name" "$work/out"; fi
}

# tool NAME gets a tool of tools.sh.
tool() { scripts/tools.sh "$1" 2>"$work/tool.log" || { reason=$(tail -n 1 "$work/tool.log"); return 1; }; }

check_image() {
  if [[ -n $packages ]]; then
    passes "deploy/Dockerfile: hadolint" "$venv/bin/hadolint" deploy/Dockerfile
  else
    not_run "hadolint on deploy/Dockerfile" "$no_packages"
  fi
}

check_compose() {
  local config=("$bin/compose-config" deploy/compose.yaml) secrets=(POSTGRES_PASSWORD=a CALLCHAIN_AUTH_KEY=b CALLCHAIN_ADMIN_PASSWORD=c) secret
  tool compose || { not_run "Docker Compose's check of deploy/compose.yaml" "$reason"; return; }
  passes "deploy/compose.yaml: is valid" env "${secrets[@]}" "${config[@]}"
  for secret in "${secrets[@]}"; do
    fails "deploy/compose.yaml: is refused without ${secret%=*}" "required variable ${secret%=*} is missing" \
      env "${secrets[@]}" "${secret%=*}=" "${config[@]}"
  done
}

check_chart() {
  local chart=deploy/helm/callchain values name helm=("$bin/helm")
  tool helm || { not_run "helm on deploy/helm" "$reason"; return; }
  CGO_ENABLED=0 go build -o "$work/callchain" ./cmd/callchain || { bad "deploy/helm: the server could not be built"; return; }
  for values in "$chart"/ci/*.yaml; do
    name="deploy/helm, $(basename "$values")"
    passes "$name: helm lint" "${helm[@]}" lint --quiet --strict --kube-version "$kubernetes" "$chart" -f "$values"
    passes "$name: helm template" "${helm[@]}" template test "$chart" --kube-version "$kubernetes" -f "$values" --output-dir "$work/$(basename "$values")"
    check_manifests "$name" "$work/$(basename "$values")"
    check_settings "$name" "$work/$(basename "$values")"
  done
  helm+=(template test "$chart" --kube-version "$kubernetes" -f "$chart/ci/values.yaml" --set)
  fails "deploy/helm: is refused without a secret" "secret.name: name the secret" "${helm[@]}" secret.name=
  fails "deploy/helm: is refused without brokers" "kafka.brokers: name the brokers" "${helm[@]}" kafka.brokers=
  fails "deploy/helm: refuses values that it does not know" "replica" "${helm[@]}" replica=5
  fails "deploy/helm: refuses passwords among the settings" "invalid propertyName 'admin.password'" "${helm[@]}" "settings.admin\.password=tenant"
}

# check_manifests NAME FOLDER holds what the chart made against the API of Kubernetes. ServiceMonitor is not Kubernetes' own.
check_manifests() {
  local files
  if [[ -z $packages ]]; then
    not_run "$1: validation of the manifests" "$no_packages"
    return
  fi
  mapfile -t files < <(grep -rL 'kind: ServiceMonitor' "$2")
  [[ ${#files[@]} -ge 3 ]] || { bad "$1: the chart makes ${#files[@]} files"; return; }
  passes "$1: the API of Kubernetes $kubernetes" "$venv/bin/kubernetes-validate" -k "${kubernetes%.*}" --strict "${files[@]}"
}

# check_settings NAME FOLDER starts the server with the settings that the chart gives a pod: it has to get as far as to the database, which
# nobody is.
check_settings() {
  local given
  mapfile -t given < <(sed -nE 's/^ *- \{name: (CALLCHAIN_[A-Z_]+), value: "?([^"]*)"?\}$/\1=\2/p' "$2"/callchain/templates/statefulset.yaml)
  given+=("CALLCHAIN_HTTP_ADDR=127.0.0.1:0" "CALLCHAIN_MQTT_ADDR=" "CALLCHAIN_COAP_ADDR=" "CALLCHAIN_DATA_DIR=$work/data" "CALLCHAIN_NODE_ID=node-0"
    "CALLCHAIN_STORE_URL=postgres://nobody@127.0.0.1:1/nothing" "CALLCHAIN_BUS_KAFKA_SASL_PASSWORD=word")
  fails "$1: the server takes the settings" "127.0.0.1:1: connect: connection refused" env -u CALLCHAIN_NOT_RUN "${given[@]}" timeout 20 "$work/callchain" serve
}

check_service() {
  local most=1.5 got
  command -v systemd-analyze >/dev/null || { not_run "deploy/systemd" "systemd-analyze is not there: install systemd"; return; }
  # The unit names the program where it will be; here something has to be there.
  sed "s#^ExecStart=[^ ]*#ExecStart=$(command -v true)#" deploy/systemd/callchain.service >"$work/callchain.service"
  passes "deploy/systemd: systemd-analyze verify" systemd-analyze verify --man=no "$work/callchain.service"
  [[ ! -s $work/out ]] || bad "deploy/systemd: systemd-analyze warns" "$work/out"
  if ! systemd-analyze security --offline=true --no-pager "$work/callchain.service" >"$work/out" 2>&1; then
    not_run "deploy/systemd: exposure" "this systemd-analyze cannot tell offline: $(tail -n 1 "$work/out")"
    return
  fi
  got=$(sed -nE 's/.*Overall exposure level.*: ([0-9.]+) .*/\1/p' "$work/out")
  if awk -v got="${got:-10}" -v most="$most" 'BEGIN { exit !(got <= most) }'; then
    good "deploy/systemd: exposure $got of 10, at most $most"
  else
    bad "deploy/systemd: exposure ${got:-unknown} of 10, at most $most" "$work/out"
  fi
}

check_prometheus() {
  tool promtool || { not_run "promtool on deploy/prometheus" "$reason"; return; }
  passes "deploy/prometheus: rules" "$bin/promtool" check rules deploy/prometheus/alerts.yml
  passes "deploy/prometheus: config" "$bin/promtool" check config deploy/prometheus/prometheus.yml
}

packages= no_packages=
if scripts/venv.sh "$venv" test/requirements-deploy.txt >"$work/venv.log" 2>&1; then
  packages=yes
else
  no_packages="the packages of test/requirements-deploy.txt could not be installed: $(tail -n 1 "$work/venv.log")"
fi
check_image
check_compose
check_chart
check_service
check_prometheus
exit "$status"
