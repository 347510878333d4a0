# Sourced: free_ports N prints N ports of 127.0.0.1 that nothing listens on now, on one line.
# They come from below the range that systems give to outgoing connections, so that a server that is stopped finds its port free again.
# shellcheck shell=bash

free_ports() {
  local port found=()
  for port in $(shuf -i 20000-32000 -n "$((50 + $1))"); do
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      found+=("$port")
      if [ "${#found[@]}" = "$1" ]; then
        echo "${found[*]}"
        return
      fi
    fi
  done
  echo "free_ports: fewer than $1 free ports among $((50 + $1))" >&2
  return 1
}
