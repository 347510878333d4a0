# Shell functions of the test run; sourced, needs $work and $counts.
# shellcheck shell=bash

# shellcheck source=scripts/ports.sh
source scripts/ports.sh

heading() { printf '\n== %s ==\n' "$*"; }

# not_run WHAT WHY tells what could not be run, now and again at the end.
not_run() {
  printf '\n*** NOT RUN: %s: %s ***\n' "$1" "$2"
  printf '%s: %s\n' "$1" "$2" >>"$work/not-run"
}

# check NAME COMMAND… runs a command that counts as one test, and gives its exit status.
check() {
  local name=$1 status=0
  shift
  "$@" || status=$?
  "$work/tally" -check "$name" -status "$status" -to "$counts"
  return "$status"
}

# stop_process PID ends a process of ours and waits for it, 15 s at most.
stop_process() {
  local pid=$1
  [[ -n $pid ]] && kill "$pid" 2>/dev/null || return 0
  for _ in {1..150}; do
    kill -0 "$pid" 2>/dev/null || { wait "$pid" 2>/dev/null; return 0; }
    sleep 0.1
  done
  kill -9 "$pid" 2>/dev/null
}

# wait_ready URL PID waits until the server is ready, 30 s at most, or until it ended.
wait_ready() {
  for _ in {1..150}; do
    curl -fsS -o /dev/null "$1/readyz" 2>/dev/null && return 0
    kill -0 "$2" 2>/dev/null || return 1
    sleep 0.2
  done
  return 1
}
