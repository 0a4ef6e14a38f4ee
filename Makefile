# Every target is listed by `make help`; the text behind ## is what it prints.
.DEFAULT_GOAL := help
SHELL := /bin/bash

MODULE        := github.com/caddy-openid-connect/caddy-openid-connect
CADDY_VERSION  = $(shell go list -m -f '{{.Version}}' github.com/caddyserver/caddy/v2)
GOLANGCI_LINT := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK   := go run golang.org/x/vuln/cmd/govulncheck@v1.9.0

# The root module and those nested in it; `make test` runs the ones that need nothing but Go and a C compiler.
MODULES      := . $(patsubst %/go.mod,%,$(wildcard */go.mod))
TEST_MODULES := $(filter . bench demo,$(MODULES))

FUZZTIME ?= 60s

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  %-15s %s\n", $$1, $$2 }'

# Build and run

.PHONY: fetch
fetch: ## Fetch the Go modules and tools that the targets need; what is there already is not fetched again
	@set -e; for module in $(MODULES); do (cd $$module && go list -deps -test ./... >/dev/null); done
	@$(GOLANGCI_LINT) version

.PHONY: build
build: ## Build ./caddy with xcaddy, as users do
	go tool xcaddy build $(CADDY_VERSION) --output caddy --with $(MODULE)@v0.0.0=.

.PHONY: build-redis
build-redis: ## The same with the session store on Redis
	go tool xcaddy build $(CADDY_VERSION) --output caddy --with $(MODULE)@v0.0.0=. --with $(MODULE)/redis@v0.0.0=./redis

.PHONY: run
run: ## Run Caddy with example.Caddyfile
	OIDC_CLIENT_SECRET=$${OIDC_CLIENT_SECRET:-change-me} go run ./cmd/caddy run --config example.Caddyfile

.PHONY: demo
demo: ## Start a provider, an upstream and Caddy on 127.0.0.1, and print what to open and try
	cd demo && go run .

.PHONY: demo-check
demo-check: ## The demo without a person, logins and all: fail if an answer is not the one it promises
	cd demo && go run . -check

# Test

.PHONY: test
test: ## Run the tests with the race detector; needs Go and a C compiler
	@set -e; for module in $(TEST_MODULES); do \
		echo "== go test -race in $$module"; (cd $$module && go test -race -timeout 20m ./...); \
	done

.PHONY: test-redis
test-redis: ## Test the session store on Redis; needs redis-server too
	cd redis && go test -race -timeout 20m ./...

.PHONY: e2e
e2e: ## Test against real providers and several instances; needs Node.js, npm, Chromium, Java, Maven and what .ci/run installs
	cd e2e && go test -count=1 -p 1 -timeout 30m ./...

.PHONY: soak
soak: ## Use sessions for minutes against a provider that fails; needs redis-server; SOAK="-duration 10m"
	cd e2e && go run ./soak $(SOAK)

.PHONY: matrix
matrix: ## Try five real providers and write docs/provider-matrix.md; needs what e2e needs, and glewlwyd
	cd e2e && go test -count=1 -timeout 30m -run '^TestMatrix$$' . -args -write-matrix

.PHONY: chaos
chaos: ## Have everything fail under load, for minutes; needs redis-server; CHAOS="-only sockets -duration 30s"
	cd e2e && go run ./chaos $(CHAOS)

.PHONY: golden
golden: ## Write the golden files and the generated tables of the docs anew; read the difference before you commit it
	go test . -run '^(TestAdapt|TestPages|TestReference|TestReasonReference)$$' -update
	go test ./internal/apisix -update

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (60s)
	@.ci/fuzz $(FUZZTIME)

# Measure

.PHONY: bench
bench: ## Run the Go benchmarks
	go test -run '^$$' -bench . -benchmem ./...

.PHONY: bench-compare
bench-compare: ## Compare with plain Caddy, or with BENCH="-peers -write" with other gateways; needs wrk, redis-server, two quiet cores
	cd bench && go run . $(BENCH)

# Check

.PHONY: lint
lint: ## Vet and lint every module
	@set -e; for module in $(MODULES); do \
		echo "== lint in $$module"; (cd $$module && go vet ./... && $(GOLANGCI_LINT) run --allow-parallel-runners ./...); \
	done

.PHONY: fmt
fmt: ## Format Go files and Caddyfiles
	@set -e; for module in $(MODULES); do (cd $$module && $(GOLANGCI_LINT) fmt ./...); done
	go run ./cmd/caddy fmt --overwrite example.Caddyfile

.PHONY: vulncheck
vulncheck: ## Look for known vulnerabilities in what is used
	@set -e; for module in $(MODULES); do \
		echo "== govulncheck in $$module"; (cd $$module && $(GOVULNCHECK) ./...); \
	done

.PHONY: clean
clean: ## Remove what the targets above have made
	rm -rf caddy bench/bench bench/out demo/demo coverage.* e2e/oidc-provider/node_modules
	find . -type f \( -name '*.prof' -o -name '*.test' \) -delete
