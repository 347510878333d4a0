#!/usr/bin/env bash
# Sees to it that the command-line clients of foreign makers are there: clients.sh
# Installs what lacks with apt-get where that is possible (as root on Debian and its kin). Names what is not there after that, with exit status 1.
set -euo pipefail

# lacking prints the packages of what is not there: curl, jq, mosquitto_pub and mosquitto_sub, libcoap's coap-client.
lacking() {
  command -v curl >/dev/null || echo curl
  command -v jq >/dev/null || echo jq
  command -v mosquitto_sub >/dev/null && command -v mosquitto_pub >/dev/null || echo mosquitto-clients
  command -v coap-client >/dev/null || command -v coap-client-openssl >/dev/null || command -v coap-client-notls >/dev/null || echo libcoap3-bin
}

mapfile -t packages < <(lacking)
if [[ ${#packages[@]} -gt 0 && $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  install=(apt-get install -y -q --no-install-recommends "${packages[@]}")
  "${install[@]}" || { apt-get update -q && "${install[@]}"; } || true # what is still lacking is told below
  mapfile -t packages < <(lacking)
fi
if [[ ${#packages[@]} -gt 0 ]]; then
  echo "clients: install ${packages[*]}" >&2
  exit 1
fi
