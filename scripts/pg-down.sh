#!/usr/bin/env bash
# Stops the PostgreSQL that scripts/pg-up.sh started in DIR; it is no error if none runs.
#
#   scripts/pg-down.sh DIR [fast|immediate]
#
# The process is found by the data folder's own pid file, which is believed only if that process is a server of this folder.
set -euo pipefail

if [ $# -lt 1 ]; then
  echo "usage: $0 DIR [fast|immediate]" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/pg-find.sh
source "$here/pg-find.sh"

[ -d "$1" ] || exit 0
dir=$(cd "$1" && pwd)
pidfile=$dir/data/postmaster.pid
[ -e "$pidfile" ] || exit 0

pid=$(sed -n 1p "$pidfile")
if ! ps -p "$pid" -o command= 2>/dev/null | grep -qF -- "-D $dir/data"; then
  echo "pg-down: process $pid is no server of $dir: nothing stopped" >&2
  exit 0
fi
PGBIN=$(pg_bin)
"${as_postgres[@]}" "$PGBIN/pg_ctl" -D "$dir/data" -m "${2:-fast}" -w -t 60 -s stop
