# One line per task; `bash .ci/run` runs those that guard a change.
CADDY_VERSION := v2.11.9
LINT_VERSION  := v2.15.0
MODULE        := github.com/gplus-recycling/caddy-redis-cache
MODULES       := http.handlers.redis_cache redis_cache admin.api.redis_cache
# Modules of their own, joined by go.work, keep what only tests and tools need from users.
ALL           := ./... ./integration/...
LINT          := bin/golangci-lint
LINT_STAMP    := bin/.golangci-lint-$(LINT_VERSION)
PROMTOOL      ?= go run github.com/prometheus/prometheus/cmd/promtool@v0.316.0
FUZZTIME      ?= 30s
SUDO          := $(if $(filter-out 0,$(shell id -u)),sudo)
# Only tests need these: a Redis server, and a C compiler for the race detector.
PACKAGES       = $(if $(shell command -v redis-server 2>/dev/null),,redis-server) $(if $(shell command -v cc 2>/dev/null),,gcc libc6-dev)

.PHONY: run test apps lint fmt fuzz check-journal bench bench-marks xcaddy example check-deploy tools system

run: ## the example, without Redis if there is none
	go run ./cmd/caddy run --config Caddyfile.example

test: system ## every test, with the race detector; an unexpected skip is a failure
	go run ./integration/gotest -race -shuffle=on -timeout 15m $(ALL)

apps: PACKAGES += $(if $(shell command -v npm 2>/dev/null),,nodejs npm)
apps: system ## the dangerous cases once more with Next.js, Apollo Server and GraphQL Yoga
	mkdir -p bin/apps && cp -R integration/apps/testdata/. bin/apps
	cd bin/apps/graphql && npm install --no-audit --no-fund --no-package-lock
	cd bin/apps/next && npm install --no-audit --no-fund --no-package-lock && NEXT_TELEMETRY_DISABLED=1 npx next build
	go test -tags apps -count 1 -run '^TestApp' ./integration/apps -apps $(CURDIR)/bin/apps

lint: $(LINT_STAMP) ## Caddy's linters, and every module is tidy without the others, too
	$(LINT) run $(ALL)
	@for module in . integration tools; do (cd $$module && GOWORK=off go mod tidy -diff) || exit 1; done

fmt: $(LINT_STAMP) ## gofumpt and gci
	$(LINT) fmt ./...

fuzz: ## each fuzz target for $(FUZZTIME)
	@grep -rlE --include='*_test.go' '^func Fuzz' . | while read -r file; do grep -oE '^func Fuzz\w+' "$$file" | while read -r _ name; do \
		echo "$$(dirname "$$file") $$name"; go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" || exit 1; done || exit 1; done

check-journal: system ## the linearizability check of purges, many rounds
	go test -race -timeout 30m -run '^TestG1IsLinearizable$$' ./internal/journal -linear.rounds 100

bench: ## benchmarks, with allocations
	go test -tags bench -run '^$$' -bench . -benchmem $(ALL)

bench-marks: system ## 2,000,000 POSTs: what was stored and what was purged before holds, on nodes that join, too; memory and time before and after
	go test -run '^$$' -bench '^BenchmarkFlood$$' -benchtime 1x ./internal/journal
	go test -v -timeout 30m -run '^TestFloodOfPosts$$' ./integration/purge -flood.posts 2000000 | grep -v '"level"'

xcaddy: ## a Caddy built the way users build it, with our modules in it
	go tool xcaddy build $(CADDY_VERSION) --with $(MODULE)@v0.0.0=. --output caddy
	@for module in $(MODULES); do ./caddy list-modules | grep -qx "$$module" || { echo "$$module is not in the binary"; exit 1; }; done; echo "modules listed: $(MODULES)"

example: xcaddy ## the example is valid and formatted
	./caddy validate --adapter caddyfile --config Caddyfile.example
	./caddy fmt --diff Caddyfile.example | { ! grep '^[-+] '; }

check-deploy: ## Prometheus's configuration and the tests of its alerts; builds promtool, which takes minutes
	$(PROMTOOL) check config deploy/prometheus.yml
	$(PROMTOOL) test rules deploy/alerts_test.yml

tools: $(LINT_STAMP) ## what lint and fmt need

$(LINT_STAMP):
	GOBIN=$(CURDIR)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	@touch $@

system:
	@set -- $(PACKAGES); [ $$# = 0 ] && exit 0; \
	command -v apt-get >/dev/null || { echo "please install: $$*"; exit 1; }; \
	[ -z "$(SUDO)" ] || command -v sudo >/dev/null || { echo "please install as root: apt-get install -y $$*"; exit 1; }; \
	$(SUDO) apt-get update && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$$@"
