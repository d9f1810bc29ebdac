# Everything runs in .venv, made from requirements.lock by the first target that needs it.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash

BIN := .venv/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
# The jobs that `make up` runs, unless the environment or callboard.toml names others.
up: export CALLBOARD_JOBS ?= $(if $(wildcard callboard.toml),,examples.jobs)

.PHONY: help setup demo up test lint contract bench bench-peers docs

help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.installed ## Make .venv from requirements.lock

demo: .venv/.installed ## Run the whole platform for a minute, with real work through every door
	@$(BIN)/python -m examples.demo

up: .venv/.installed ## Run the platform here until Ctrl-C, with the jobs of examples/jobs.py
	@$(BIN)/callboard up

test: .venv/.installed ## Run all tests
	@status=0; \
	$(BIN)/pytest -n auto --maxprocesses 4 tests/unit tests/contract tests/integration || status=$$?; \
	$(BIN)/pytest -n 2 --dist worksteal tests/e2e || status=$$?; \
	exit $$status

lint: .venv/.installed ## Check format, rules, types, imports and the length of files
	@$(BIN)/ruff format --check --quiet --output-format concise . || { echo "these are to be formatted: $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/ruff check --quiet --output-format concise .
	@$(BIN)/mypy --no-error-summary
	@said=$$($(BIN)/lint-imports 2>&1) || { echo "$$said"; exit 1; }
	@$(BIN)/python .ci/check_lengths.py
	@echo "lint: clean"

contract: .venv/.installed ## Run Dramatiq's own tests against the broker; they come from the package index
	@$(BIN)/python tests/contract/dramatiq/run.py

bench: .venv/.installed ## Measure speed beside bare Dramatiq (make bench ARGS="drain --rounds 5")
	@$(BIN)/python -m benchmarks $(ARGS)

bench-peers: .venv-peers/.installed ## Install other projects to measure beside us (make bench ARGS=--peers)

docs: .venv/.installed ## Check the documentation: links, tables, and every code block by running it
	@$(BIN)/pytest tests/unit/test_docs.py tests/e2e/test_readme.py

.venv/.installed: pyproject.toml .venv/.locked
	@$(PIP) install --no-deps --editable .
	@touch $@

.venv-peers/.installed: benchmarks/peers/requirements.txt .venv/.locked
	@echo "Making .venv-peers from $< ..."
	@$(BIN)/python -m venv --clear .venv-peers
	@.venv-peers/bin/python -m pip -qq --disable-pip-version-check install --requirement $<
	@touch $@

.venv/.locked: requirements.lock
	@python=; \
	for name in python3.13 python3.12 python3.11 python3; do \
	  if $$name -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "make: Callboard needs Python 3.11 or later with its venv module, and found none on the PATH" >&2; \
	  echo "      (on Debian and Ubuntu: apt install python3 python3-venv)" >&2; exit 1; \
	fi; \
	echo "Making .venv with $$($$python --version) from requirements.lock ..."; \
	$$python -m venv --clear .venv
	@$(PIP) install --require-hashes --requirement requirements.lock
	@touch $@
