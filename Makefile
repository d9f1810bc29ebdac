# Everything runs in .venv. The first target that needs it creates it from requirements.lock.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash

BIN := .venv/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
# What fails beside other tests is run once more, alone.
TESTS := $(BIN)/python .ci/run_tests.py
comma := ,
# The jobs that `make up` runs, unless the environment or callboard.toml sets others.
up: export CALLBOARD_JOBS ?= $(if $(wildcard callboard.toml),,examples.jobs$(comma)examples.receipts)

.PHONY: help setup demo up test test-long test-system matrix lint lint-openapi contract fuzz bench siege endurance drill bench-peers guests docs

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.installed ## Create .venv from requirements.lock

demo: .venv/.installed ## Run the whole platform for a minute, with real jobs of every kind
	@$(BIN)/python -m examples.demo

up: .venv/.installed ## Run the platform until Ctrl-C, with the jobs of examples/
	@$(BIN)/callboard up

test: .venv/.installed ## Run the tests
	@status=0; \
	$(TESTS) -n auto --maxprocesses 4 -m "not long" tests/unit tests/contract tests/integration || status=$$?; \
	$(TESTS) -n 3 --dist worksteal -m "not long" tests/e2e || status=$$?; \
	exit $$status

test-long: .venv/.installed ## Run the tests that `make test` leaves out because they take long
	@$(BIN)/pytest -n 2 --dist worksteal -m long tests/unit tests/integration tests/e2e tests/system

test-system: .venv/.installed ## Run the tests that need Debian packages (root installs them)
	@$(BIN)/python .ci/debian_packages.py postgresql pgbouncer redis-server nginx gcc libc6-dev
	@$(TESTS) -n 2 --dist loadfile -m "not long" tests/system
	@$(MAKE) lint-openapi
	@$(MAKE) fuzz SECONDS=30 SEED=1

matrix: .venv/.installed ## Run the tests on each Python, and on Debian's Postgres and Redis
	@$(BIN)/python .ci/matrix.py

lint: .venv/.installed ## Check format, lint rules, types, imports and file lengths
	@$(BIN)/ruff format --check --quiet --output-format concise . \
	  || { echo "format these files with: $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/ruff check --quiet --output-format concise .
	@$(BIN)/mypy --no-error-summary
	@output=$$($(BIN)/lint-imports 2>&1) || { echo "$$output"; exit 1; }
	@$(BIN)/python .ci/check_lengths.py
	@echo "lint: no problems"

lint-openapi: .venv/.installed ## Check the OpenAPI document with Redocly's linter (needs node)
	@command -v node >/dev/null && command -v npm >/dev/null || $(BIN)/python .ci/debian_packages.py nodejs npm
	@cd .ci/openapi-lint && npm ci --ignore-scripts --no-audit --no-fund --loglevel error >/dev/null
	@cd .ci/openapi-lint && output=$$(REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true \
	  node_modules/.bin/redocly lint ../../tests/contract/openapi.json 2>&1) || { echo "$$output"; exit 1; }
	@echo "lint-openapi: no problems"

contract: .venv/.installed ## Run Dramatiq's own tests against our broker (downloads them)
	@$(BIN)/python tests/contract/dramatiq/run.py

fuzz: .venv/.installed .venv-fuzz/.installed ## Fuzz the HTTP API from its OpenAPI document (SECONDS=600 SEED=1)
	@$(BIN)/python -m tests.fuzz $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

bench: .venv/.installed ## Compare the speed with bare Dramatiq (ARGS="drain --rounds 5")
	@$(BIN)/python -m benchmarks $(ARGS)

siege: .venv/.installed ## Attack an API process; show its memory and latency (ARGS="silent trailers")
	@$(BIN)/python -m benchmarks.siege $(ARGS)

endurance: .venv/.installed ## Run all disturbances together, under load (ARGS="--minutes 10 --seed 1"; root)
	@$(BIN)/python .ci/debian_packages.py postgresql pgbouncer redis-server gcc libc6-dev
	@$(BIN)/python -m tests.system.endurance $(ARGS)

drill: .venv/.installed ## Kill workers at random under hostile jobs, and check a ledger (ARGS="--minutes 10 --seed 1")
	@$(BIN)/python -m tests.e2e.drill $(ARGS)

bench-peers: .venv-peers/.installed ## Install other projects for comparison (make bench ARGS=--peers)

guests: .venv/.installed .venv-guests/.installed ## Run programs and extensions written for Dramatiq
	@.venv-guests/bin/python -m tests.guests $(ARGS)

docs: .venv/.installed ## Check the documentation: links and tables; run every code block
	@$(BIN)/pytest tests/unit/test_docs.py tests/e2e/test_readme.py

.venv/.installed: pyproject.toml .venv/.locked
	@$(PIP) install --no-deps --editable .
	@touch $@

.venv-fuzz/.installed: tests/fuzz/requirements.txt .venv/.locked
	@echo "Creating .venv-fuzz from $< ..."
	@$(BIN)/python -m venv --clear .venv-fuzz
	@.venv-fuzz/bin/python -m pip -qq --disable-pip-version-check install --require-hashes --requirement $<
	@touch $@

.venv-peers/.installed: benchmarks/peers/requirements.txt .venv/.locked
	@echo "Creating .venv-peers from $< ..."
	@$(BIN)/python -m venv --clear .venv-peers
	@.venv-peers/bin/python -m pip -qq --disable-pip-version-check install --requirement $<
	@touch $@

# It has the guests' own packages. What it lacks comes from .venv.
.venv-guests/.installed: tests/guests/requirements.lock .venv/.locked
	@echo "Creating .venv-guests from $< ..."
	@$(BIN)/python -m venv --clear .venv-guests
	@.venv-guests/bin/python -m pip -qq --disable-pip-version-check install --no-deps --require-hashes --requirement $<
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"), "$(CURDIR)/src", sep="\n")' \
	  > "$$(.venv-guests/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dependencies.pth"
	@touch $@

.venv/.locked: requirements.lock
	@python=; \
	for name in python3.13 python3.12 python3.11 python3; do \
	  if $$name -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "make: Callboard needs Python 3.11 or later with the venv module, but the PATH has none" >&2; \
	  echo "      (on Debian and Ubuntu: apt install python3 python3-venv)" >&2; exit 1; \
	fi; \
	echo "Creating .venv with $$($$python --version) from requirements.lock ..."; \
	$$python -m venv --clear .venv
	@$(PIP) install --require-hashes --requirement requirements.lock
	@touch $@
