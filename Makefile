# The two commands: `make run` and `make test`. `make help` lists all.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The first interpreter that is 3.11 or 3.12, under its own name or as python3, in a pyenv or as uv's.
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python \
	  "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.1[12].*/bin/python "$$HOME"/.local/share/uv/python/cpython-3.1[12].*/bin/python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null \
	&& echo "$$p" && break; done)

.PHONY: help install run test check format bench faults clean
.DEFAULT_GOAL := help

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## builds the environment (.venv) from requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@[ -n "$(PYTHON)" ] || { echo "Telltale needs Python 3.11 or 3.12 with venv (Bytewax has no wheel for 3.13);" \
	  "found $$(python3 -V 2>&1 | tail -1). Install one, or: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"; exit 2; } >&2
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || { \
	  echo "Telltale needs Python 3.11 or 3.12, $(PYTHON) is $$("$(PYTHON)" -V 2>&1)."; exit 2; } >&2
	@echo "Building $(VENV) with $$("$(PYTHON)" -V): a minute or two, once."
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps --only-binary :all: -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: $(STAMP) ## starts everything, with simulated people; Ctrl-C stops it, the next run goes on
	@exec $(BIN)/telltale run

test: $(STAMP) ## all tests, two files at a time, with a few kills (make faults: all)
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile

check: $(STAMP) ## format, lint, types, tests: what CI runs
	@$(BIN)/ruff format --check -q . && $(BIN)/ruff check -q .
	@$(BIN)/mypy
	@$(MAKE) -s test

format: $(STAMP) ## formats the code and mends what lint can mend
	@$(BIN)/ruff check -q --fix . ; $(BIN)/ruff format -q .

bench: $(STAMP) ## all benchmarks, into bench.json and bench.html; QUICK=1: in ten minutes
	@$(BIN)/telltale bench all $(if $(QUICK),--quick)

faults: $(STAMP) ## the fault laboratory, into faults.json: an hour, or MINUTES=4; SEED=7; NAME=kill: those alone
	@$(BIN)/telltale faults $(if $(NAME),"$(NAME)") --minutes $(or $(MINUTES),60) --seed $(or $(SEED),1)

clean: ## removes the environment and caches; data in .telltale stays
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
