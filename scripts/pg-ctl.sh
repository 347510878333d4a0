#!/usr/bin/env bash
# Stops, kills and starts the same PostgreSQL on the same data and port: pg-ctl.sh DIR stop|kill|start
# kill is PostgreSQL's immediate stop: no client hears a word, and the next start recovers as after a crash.
# scripts/pg-up.sh puts a script "ctl" into DIR that knows DIR; CALLCHAIN_TEST_POSTGRES_CTL names it to the tests.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
case ${2:-} in
  start) exec "$here/pg-up.sh" "$1" "$(cat "$1/port")" ;;
  stop) exec "$here/pg-down.sh" "$1" fast ;;
  kill) exec "$here/pg-down.sh" "$1" immediate ;;
  *)
    echo "usage: $0 DIR stop|kill|start" >&2
    exit 2
    ;;
esac
