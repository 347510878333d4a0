#!/usr/bin/env bash
# Format, linters and vet: lint.sh. Where golangci-lint cannot be installed it says so and does what the Go tools can.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
lint=.run/bin/golangci-lint
status=0

if scripts/tools.sh; then
  "$lint" fmt --diff || status=1
  "$lint" run || status=1
else
  echo "NOT RUN: golangci-lint: it could not be installed; checking with gofmt and go vet only" >&2
  unformatted=$(go list -f '{{.Dir}}' ./... | xargs -d '\n' gofmt -l)
  if [[ -n $unformatted ]]; then
    printf 'not formatted (make fmt fixes it):\n%s\n' "$unformatted" >&2
    status=1
  fi
fi
go vet ./... || status=1
exit "$status"
