#!/usr/bin/env bash
# Starts a PostgreSQL of its own for tests and prints its URL as the only line on standard output.
#
#   scripts/pg-up.sh DIR [PORT]
#
# DIR holds the data, the log, the socket and the script "ctl", which stops, kills and starts this server; it is made if it does not
# exist. Without PORT a free one is taken. The server listens on 127.0.0.1 only and trusts whoever reaches it. Called again, it prints the
# URL of the server that runs. PG_BIN names the folder of the programs if they are not found; PG_EXTRA adds server options, for example
# "-c fsync=off".
set -euo pipefail

if [ $# -lt 1 ]; then
  echo "usage: $0 DIR [PORT]" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/pg-find.sh
source "$here/pg-find.sh"
# shellcheck source=scripts/ports.sh
source "$here/ports.sh"

if ! PGBIN=$(pg_bin); then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "pg-up: no PostgreSQL found: install it, or set PG_BIN to the folder of initdb" >&2
    exit 1
  fi
  echo "pg-up: installing PostgreSQL" >&2
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends postgresql; } >&2
  PGBIN=$(pg_bin)
fi

mkdir -p "$1"
dir=$(cd "$1" && pwd)
if [ "$(id -u)" = 0 ]; then
  chown postgres "$dir"
  if ! runuser -u postgres -- test -w "$dir"; then
    echo "pg-up: the user postgres cannot reach $dir: take a folder whose parents it may enter" >&2
    exit 1
  fi
fi
chmod 700 "$dir"

# Two calls at once make one server.
exec 9>"$dir/lock"
flock -w 120 9 || { echo "pg-up: another start in $dir takes more than two minutes: end it" >&2; exit 1; }

url() { echo "postgres://postgres@127.0.0.1:$(cat "$dir/port")/postgres?sslmode=disable"; }

if "${as_postgres[@]}" "$PGBIN/pg_ctl" -D "$dir/data" status >/dev/null 2>&1; then
  url
  exit
fi

if [ ! -e "$dir/data/PG_VERSION" ]; then
  "${as_postgres[@]}" "$PGBIN/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-instructions >"$dir/initdb.log" 2>&1 9>&- || {
    cat "$dir/initdb.log" >&2
    exit 1
  }
fi
port=${2:-$(free_ports 1)}
echo "$port" >"$dir/port"
printf '#!/usr/bin/env bash\nexec %q %q "$@"\n' "$here/pg-ctl.sh" "$dir" >"$dir/ctl"
chmod +x "$dir/ctl"
options="-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories=$dir -c max_connections=200 -c shared_buffers=256MB ${PG_EXTRA:-}"
# The server must not inherit the lock.
if ! "${as_postgres[@]}" "$PGBIN/pg_ctl" -D "$dir/data" -l "$dir/log" -w -t 60 -s -o "$options" start >&2 9>&-; then
  tail -n 20 "$dir/log" >&2
  exit 1
fi
url
