#!/usr/bin/env bash
# Validates docs/asyncapi.yaml with AsyncAPI's own parser, which comes through npm into .run/asyncapi: asyncapi.sh [FILE]
# Exit status 2 if the parser cannot be had.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
parser=3.6.3
file=$(realpath "${1:-docs/asyncapi.yaml}")

folder=$PWD/.run/asyncapi-$parser
if [[ ! -e $folder/ready ]]; then
  if ! command -v npm >/dev/null; then
    echo "asyncapi: npm is needed to fetch the validator: install nodejs and npm" >&2
    exit 2
  fi
  mkdir -p "$folder"
  npm install --silent --no-audit --no-fund --prefix "$folder" "@asyncapi/parser@$parser" >&2 || exit 2
  touch "$folder/ready"
fi
cat >"$folder/validate.mjs" <<'SCRIPT'
import { Parser, fromFile } from "@asyncapi/parser";

const { document, diagnostics } = await fromFile(new Parser(), process.argv[2]).parse();
const severity = ["error", "warning", "information", "hint"];
for (const d of diagnostics) {
  console.error(`${severity[d.severity]}: ${d.path.join(".")}: ${d.message}`);
}
if (!document || diagnostics.some((d) => d.severity <= 1)) {
  process.exit(1);
}
console.log(`${process.argv[2]} is valid AsyncAPI ${document.version()}`);
SCRIPT
node "$folder/validate.mjs" "$file"
