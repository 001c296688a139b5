# Needs only Python (3.10 or newer, with venv), git and make. Everything is installed into .venv beside this file.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO ?= prsnet-demo

.PHONY: install demo test test-slow check lint types architecture clean help

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

install: $(STAMP) ## set up .venv; afterwards .venv/bin/prsnet works

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "prsnet needs Python 3.10 or newer, this is " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,fast]'
	@touch $@

demo: install ## generate people, train, evaluate, draw everything (about four minutes on two cores)
	$(BIN)/prsnet demo --out $(DEMO)

# One thread per test process: two processes with two threads each would wait for one another on two cores.
test: install ## the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n auto

test-slow: install ## the tests that take longer
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n auto

check: lint types architecture ## format, lint, strict types, layers

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install
	$(BIN)/mypy

architecture: install
	$(BIN)/python -m pytest -q tests/architecture

clean: ## remove .venv and what tools left behind
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
