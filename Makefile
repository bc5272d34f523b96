# make prints this file's targets: a target is described by the text after its ##.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test check build setup bench bench-builds

# Of what go build -v says, each fortieth module and package stands for the others; all else is printed.
COUNT = function say(n, what) { if (n % 40 == 0) { print "    " n " " what; fflush() } } \
	/^go: downloading/ { say(++d, "modules downloaded"); next } \
	/^[^ :]+$$/ { say(++p, "packages compiled"); next } \
	{ print; fflush() }

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

help: ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

run: ## install what is missing, build, then build and start examples/python; prints a URL (as root)
	@scripts/setup run
	@$(MAKE) --no-print-directory build
	@echo bin/bindery run examples/python
	@bin/bindery run examples/python || [ $$? = 130 ] # Ctrl-C, by which it ends

test: ## install what is missing, then run every check and every test (as root)
	@scripts/setup test
	./check

check: ## run every check and every test on a machine that is set up
	./check

build: ## build bin/bindery
	@echo "==> building bin/bindery (minutes the first time, with every module to download; then seconds)"
	@CGO_ENABLED=0 go build -v -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/bindery ./cmd/bindery 2>&1 | awk '$(COUNT)'

setup: ## install what running and testing need
	@scripts/setup test

bench: ## measure what docs/performance.md reports (as root, a few minutes)
	@scripts/setup run
	@$(MAKE) --no-print-directory build
	scripts/bench

bench-builds: ## measure builds beside pip, as docs/performance.md reports them (as root, some twenty minutes)
	@scripts/setup test
	@echo '| environment | cold: Bindery | pip | | warm: Bindery | pip | |'
	@echo '|---|---:|---:|---:|---:|---:|---:|'
	@CGO_ENABLED=0 scripts/fresh-disk go test ./buildkit -run '^$$' -bench '^BenchmarkBesidePip$$' -benchtime 1x -timeout 60m | sed -n '/^|/p; /^--- FAIL/,$$p'
