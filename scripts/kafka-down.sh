#!/usr/bin/env bash
# Stops the Kafka broker that scripts/kafka-up.sh started in DIR; it is no error if none runs.
#
#   scripts/kafka-down.sh DIR [stop|kill]
#
# stop lets it close its files, kill ends it as a crash does. Its data and its port stay in DIR.
set -euo pipefail

if [ $# -lt 1 ]; then
  echo "usage: $0 DIR [stop|kill]" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/kafka-find.sh
source "$here/kafka-find.sh"

[ -d "$1" ] || exit 0
dir=$(cd "$1" && pwd)
pid=$(kafka_pid "$dir") || exit 0
case ${2:-stop} in
  stop) kafka_end "$dir" "$pid" TERM ;;
  kill) kafka_end "$dir" "$pid" KILL ;;
  *)
    echo "kafka-down: \"$2\" is neither stop nor kill" >&2
    exit 2
    ;;
esac

# Whoever stops first leaves the archive of classes for all, moved into place when it is complete.
if [ -e "$dir/classes.jsa" ]; then
  jars=$("$here/kafka-jars.sh")
  [ -e "$jars/classes.jsa" ] || { cp "$dir/classes.jsa" "$jars/classes.jsa.$$" && mv "$jars/classes.jsa.$$" "$jars/classes.jsa"; }
  rm -f "$dir/classes.jsa"
fi
