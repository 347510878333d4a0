# Sourced by kafka-up.sh, kafka-down.sh and kafka-ctl.sh.
# shellcheck shell=bash

# kafka_pid DIR prints the process of the broker in DIR, given as an absolute path. It fails when none runs: the number in the file is
# believed only if that process is a broker of this folder.
kafka_pid() {
  local pid
  pid=$(cat "$1/pid" 2>/dev/null) || return 1
  ps -ww -p "$pid" -o command= 2>/dev/null | grep -qF -- "-Dcallchain.kafka.dir=$1 " || return 1
  echo "$pid"
}

# kafka_end DIR PID SIGNAL ends the broker and waits until nothing is left of it, its ports too; after 30 s it is killed.
kafka_end() {
  local state _
  kill -s "$3" "$2" 2>/dev/null || true
  for _ in {1..600}; do
    state=$(ps -o stat= -p "$2" 2>/dev/null) || true
    if [ -z "$state" ] || [[ $state == Z* && $state != *l* ]]; then # "l": threads that die still hold the ports
      rm -f "$1/pid"
      return
    fi
    sleep 0.05
  done
  kill -s KILL "$2" 2>/dev/null || true
  rm -f "$1/pid"
}
