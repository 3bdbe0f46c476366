# Everything runs in .venv, which is created from the locked requirements on first use.

.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Install with uv if available: it takes seconds where pip takes minutes.
INSTALL := $(if $(shell command -v uv),uv pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip --disable-pip-version-check install --quiet)
SOURCES := app tests benchmarks scripts
UV ?= uv
PARALLEL := --numprocesses auto --dist worksteal
# From Python 3.12 on, coverage costs next to nothing; before, it doubles the time of the tests.
COVERAGE = $(shell $(BIN)/python -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")')
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --no-header

.PHONY: help demo serve test test-all test-long test-wheel canary check reference descriptions format bench soak attack fuzz lock clean

help:  ## Show what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.local  ## Run a department of agents here, with nothing but Python
	@$(BIN)/dynamic-agents demo

serve: $(VENV)/.local  ## Serve the API on http://127.0.0.1:8000
	@$(BIN)/dynamic-agents serve

test: $(VENV)/.dev  ## Run the quick tests: a few minutes on two cores
	@$(BIN)/pytest $(PARALLEL) -m "not slow and not long"

test-all: $(VENV)/.dev  ## Run all tests but the long ones, as CI does
	@$(BIN)/pytest $(PARALLEL)

test-long: $(VENV)/.dev  ## Run the tests that wait for minutes: restarts, outages, kills
	@$(BIN)/pytest -m long

test-wheel: $(VENV)/.dev  ## Install the wheel into a clean environment and complete a run with it
	@$(BIN)/pytest tests/packaging/test_wheel.py -m 'long or not long'

canary: $(VENV)/.dev  ## Test the packages that the service reaches into at their newest releases (PACKAGES="litellm mcp")
	@$(BIN)/python -m scripts.canary $(PACKAGES)

check: $(VENV)/.dev  ## What CI runs: format, lint, types, imports, dependencies, docs, tests with coverage
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/pyright
	@$(BIN)/lint-imports
	@$(BIN)/deptry app
	@$(BIN)/deptry $(SOURCES) --ignore DEP002,DEP004
	@$(BIN)/python -m scripts.check_style
	@$(BIN)/python -m scripts.check_console
	@COVERAGE_CORE=$(COVERAGE) $(BIN)/pytest $(PARALLEL) --cov --cov-report=term:skip-covered

reference: $(VENV)/.dev  ## Generate the reference pages of settings and error codes
	@$(BIN)/python -m scripts.generate_reference

descriptions: $(VENV)/.dev  ## Write openapi.json and asyncapi.json to .data/descriptions
	@$(BIN)/python -m scripts.export_descriptions .data/descriptions

format: $(VENV)/.dev  ## Format the code and fix whatever can be fixed
	@$(BIN)/ruff format $(SOURCES)
	@$(BIN)/ruff check --fix $(SOURCES)

soak: $(VENV)/.dev  ## Kill and freeze random processes under load for SOAK_SECONDS (60) and check every promise
	@$(BIN)/python -m benchmarks.soak

attack: $(VENV)/.dev  ## Attack a service in every way the tests know, then mixed for ATTACK_SECONDS (300)
	@$(BIN)/python -m tests.security.attack

bench: $(VENV)/.dev  ## Run the benchmarks
	@$(BIN)/python -m benchmarks

fuzz: $(VENV)/.dev  ## Run random hostile tools in the sandbox for ten minutes (SECONDS=600)
	@$(BIN)/python -m tests.services.tools.sandbox.fuzz --seconds $(or $(SECONDS),600)

lock:  ## Lock the requirements again (needs uv)
	@$(COMPILE) pyproject.toml --extra embedded --extra otel --group build --group dev --output-file requirements/dev.lock
	@$(COMPILE) pyproject.toml --extra embedded --extra otel --group build --constraint requirements/dev.lock --output-file requirements/local.lock
	@$(COMPILE) pyproject.toml --extra otel --constraint requirements/dev.lock --output-file requirements/runtime.lock
	@$(COMPILE) --group build --constraint requirements/dev.lock --output-file requirements/build.lock

clean:  ## Remove the environment and the embedded data
	rm -rf $(VENV) .data

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed (set PYTHON=…)."; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.local: requirements/local.lock | $(VENV)/bin/python
	@echo "Installing the locked dependencies …"
	@$(INSTALL) --no-deps --require-hashes -r requirements/local.lock
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.lock | $(VENV)/bin/python
	@echo "Installing the locked dependencies …"
	@$(INSTALL) --no-deps --require-hashes -r requirements/dev.lock
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.local
