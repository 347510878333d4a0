#!/usr/bin/env bash
# Installs the project's tools into .run/bin, each in its pinned version: tools.sh [golangci-lint|helm|compose|promtool]…
# Without names: golangci-lint. The others are for deploy-check.sh.
# A tool that is there in the right version is left alone, so a second call takes no time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
golangci=2.15.0 helm=3.22.0 compose=2.16.2

export GOBIN=$PWD/.run/bin GOFLAGS=
mkdir -p "$GOBIN"

# built NAME VERSION tells whether a tool that does not know its own version was built from this one.
built() { [[ -x $GOBIN/$1 && $(cat "$GOBIN/.$1-version" 2>/dev/null) == "$2" ]]; }

install_golangci() {
  if [[ $("$GOBIN/golangci-lint" version --short 2>/dev/null || true) != "$golangci" ]]; then
    echo "tools: building golangci-lint $golangci (a minute, once)" >&2
    go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$golangci"
  fi
}

install_helm() {
  built helm "$helm" && return
  echo "tools: building helm $helm (two minutes, once)" >&2
  go install -ldflags '-s -w' "helm.sh/helm/v3/cmd/helm@v$helm"
  echo "$helm" >"$GOBIN/.helm-version"
}

# compose-config prints a file as Docker Compose understands it: the loader of its makers, which their own small command uses without the
# environment.
install_compose() {
  local folder status=0
  built compose-config "$compose" && return
  echo "tools: building the loader of compose files $compose" >&2
  folder=$(mktemp -d)
  cat >"$folder/main.go" <<'PROGRAM'
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	options, err := cli.NewProjectOptions(os.Args[1:], cli.WithOsEnv)
	if err != nil {
		fail(err)
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		fail(err)
	}
	text, err := project.MarshalYAML()
	if err != nil {
		fail(err)
	}
	fmt.Print(string(text))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
PROGRAM
  (cd "$folder" && go mod init compose-config && go get "github.com/compose-spec/compose-go/v2/cli@v$compose" && go build -o "$GOBIN/compose-config" .) >&2 || status=1
  rm -rf "$folder"
  [[ $status == 0 ]] && echo "$compose" >"$GOBIN/.compose-config-version"
}

# promtool is taken from Debian, where it can be: to build it takes many minutes.
install_promtool() {
  local folder
  [[ -x $GOBIN/promtool ]] && return
  if command -v promtool >/dev/null; then
    ln -sf "$(command -v promtool)" "$GOBIN/promtool"
    return
  fi
  command -v apt-get >/dev/null || { echo "tools: promtool is needed: install prometheus" >&2; return 1; }
  folder=$(mktemp -d)
  if (cd "$folder" && chmod 755 . && apt-get download -q prometheus && dpkg-deb -x prometheus_*.deb .) >&2; then
    mv "$folder/usr/bin/promtool" "$GOBIN/promtool"
  fi
  rm -rf "$folder"
  [[ -x $GOBIN/promtool ]]
}

for tool in "${@:-golangci-lint}"; do
  case $tool in
    golangci-lint) install_golangci ;;
    helm) install_helm ;;
    compose) install_compose ;;
    promtool) install_promtool ;;
    *) echo "tools: there is no tool $tool" >&2; exit 2 ;;
  esac
done
