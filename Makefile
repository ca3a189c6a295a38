# What a person types here: `make` lists it. Everything runs in the virtual environment .venv, which `setup` makes.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INPUTS := pyproject.toml constraints.txt build_stubs.py $(shell find proto -name '*.proto')

.PHONY: help
help: ## list these targets (the default)
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: programs containerds $(INSTALLED) ## install what the rest needs: missing Debian packages (as root), newer containerds, Python packages

.PHONY: root
root:
	@stage/setup.sh root

.PHONY: programs
programs:
	@PYTHON="$(PYTHON)" stage/setup.sh programs

.PHONY: containerds
containerds: programs
	@stage/setup.sh containerds

$(INSTALLED): $(INPUTS) | programs
	@PYTHON="$(PYTHON)" stage/setup.sh environment $(VENV)
	@touch $@

.PHONY: demo
demo: root programs $(INSTALLED) ## show the agent at work on a throw-away node with real containerd and registries (as root, a minute)
	@$(BIN)/python -m stage.demo

.PHONY: test
test: root setup ## all checks and all tests (as root, some minutes)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check
	$(BIN)/pytest -n 2

.PHONY: unit
unit: root programs $(INSTALLED) ## only the fast tests
	$(BIN)/pytest -q tests/unit

.PHONY: bench
bench: programs $(INSTALLED) ## measure against known peers and print the ratios
	$(BIN)/python -m bench

.PHONY: stubs
stubs: ## generate agent/rpc from proto/ again
	@rm -f $(INSTALLED)
	@$(MAKE) programs $(INSTALLED)

.PHONY: clean
clean: ## remove .venv, generated stubs and caches
	rm -rf $(VENV) .containerd dist build agent/rpc/*_pb2*.py agent/rpc/*_pb2*.pyi
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
