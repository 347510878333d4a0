#!/usr/bin/env bash
# Sees to it that the command-line clients of foreign makers are there: clients.sh
# Installs mosquitto-clients with apt-get where that is possible (as root on Debian and its kin); exit status 1 if it is not there after that.
set -euo pipefail
command -v mosquitto_sub >/dev/null && command -v mosquitto_pub >/dev/null && exit 0
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
  echo "clients: install mosquitto-clients (mosquitto_pub, mosquitto_sub)" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get install -y -q --no-install-recommends mosquitto-clients || { apt-get update -q && apt-get install -y -q --no-install-recommends mosquitto-clients; }
