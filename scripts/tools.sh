#!/usr/bin/env bash
# Installs the project's tools into .run/bin, each in its pinned version: tools.sh
# A tool that is there in the right version is left alone, so a second call takes no time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
golangci=2.15.0

export GOBIN=$PWD/.run/bin GOFLAGS=
mkdir -p "$GOBIN"
if [[ $("$GOBIN/golangci-lint" version --short 2>/dev/null || true) != "$golangci" ]]; then
  echo "tools: building golangci-lint $golangci (a minute, once)" >&2
  go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$golangci"
fi
