#!/usr/bin/env bash
# Stops, kills, starts, pauses and resumes the same broker on the same data and port: kafka-ctl.sh DIR stop|kill|start|pause|resume
# A broker that is paused keeps its connections and answers nothing.
# scripts/kafka-up.sh puts a script "ctl" into DIR that knows DIR; CALLCHAIN_TEST_KAFKA_CTL names it to the tests.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
case ${2:-} in
  start) exec "$here/kafka-up.sh" "$1" ;;
  stop | kill) exec "$here/kafka-down.sh" "$1" "$2" ;;
  pause | resume)
    # shellcheck source=scripts/kafka-find.sh
    source "$here/kafka-find.sh"
    if ! pid=$(kafka_pid "$(cd "$1" && pwd)"); then
      echo "kafka-ctl: no broker runs in $1" >&2
      exit 1
    fi
    if [ "$2" = pause ]; then kill -s STOP "$pid"; else kill -s CONT "$pid"; fi
    ;;
  *)
    echo "usage: $0 DIR stop|kill|start|pause|resume" >&2
    exit 2
    ;;
esac
