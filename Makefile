# Everything a developer needs. `make help` prints the list.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BINARY := bin/callchain

.PHONY: help build demo kafka-demo cluster test check lint fmt bench tools pg pg-stop kafka kafka-stop clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/callchain, one static binary
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $(BINARY) ./cmd/callchain

demo: build ## build, then show a call from the REST request to the device and back, with its events
	$(BINARY) demo

kafka-demo: build ## the demo on a real Kafka and PostgreSQL, started for it and stopped at its end
	scripts/kafka-demo.sh

cluster: build ## three nodes under a small load; one is killed, one leaves, and a table tells what becomes of the calls
	scripts/cluster.sh

test: ## everything that proves the project; starts and stops what it needs
	scripts/test.sh

check: ## the quick part without services: format, lint, vet, structure, unit and golden tests
	scripts/lint.sh
	go test -short ./...

lint: ## format check, golangci-lint, go vet
	scripts/lint.sh

fmt: tools ## format all Go files
	.run/bin/golangci-lint fmt

bench: ## the benchmarks of single parts, as one table
	scripts/bench.sh

tools: ## install the pinned tools into .run/bin
	scripts/tools.sh

pg: ## start a PostgreSQL for development in .run/pg and print its URL
	@scripts/pg-up.sh .run/pg

pg-stop: ## stop it
	@scripts/pg-down.sh .run/pg

kafka: ## start a Kafka broker for development in .run/kafka and print its address
	@scripts/kafka-up.sh .run/kafka

kafka-stop: ## stop it
	@scripts/kafka-down.sh .run/kafka

clean: ## remove what builds and tests left behind (running development services are stopped first)
	@if [[ -d .run/pg ]]; then scripts/pg-down.sh .run/pg || true; fi
	@if [[ -d .run/kafka ]]; then scripts/kafka-down.sh .run/kafka || true; fi
	rm -rf bin .run
