#!/usr/bin/env bash
# Stops, kills and starts the same broker on the same data and port: kafka-ctl.sh DIR stop|kill|start
# scripts/kafka-up.sh puts a script "ctl" into DIR that knows DIR; CALLCHAIN_TEST_KAFKA_CTL names it to the tests.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
case ${2:-} in
  start) exec "$here/kafka-up.sh" "$1" ;;
  stop | kill) exec "$here/kafka-down.sh" "$1" "$2" ;;
  *)
    echo "usage: $0 DIR stop|kill|start" >&2
    exit 2
    ;;
esac
