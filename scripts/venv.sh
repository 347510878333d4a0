#!/usr/bin/env bash
# Makes a Python virtual environment with pinned packages: venv.sh FOLDER REQUIREMENTS
# It is made again when the requirements changed, and left alone otherwise.
set -euo pipefail
folder=$1 requirements=$2
want=$(cksum <"$requirements")
if [[ $(cat "$folder/.made-from" 2>/dev/null || true) == "$want" ]]; then
  exit 0
fi
rm -rf "$folder"
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
printf '%s\n' "$want" >"$folder/.made-from"
