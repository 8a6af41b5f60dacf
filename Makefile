PYTHON ?= python3
BIN := .venv/bin
QUIET := --quiet --disable-pip-version-check

.PHONY: demo test lint format soak bench bench-quick profile trace clean

demo: .venv/cli  ## A conversation with tools, in the process; ARGS="--url redis://localhost:6379/0" for Redis
	$(BIN)/memstore demo $(ARGS)

test: lint  ## Lint, types, unit tests, integration tests on real servers
	$(BIN)/python -m pytest $(ARGS)

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python --level error
	$(BIN)/lint-imports --no-cache --no-logo

format: .venv/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

soak: .venv/test  ## Many processes, random faults, an audit of all they were told; ARGS="--minutes 5", "--rollback"
	PYTHONPATH=tests $(BIN)/python -m soak $(ARGS)

bench: .venv/bench  ## How fast it is beside other packages, on a real server, in under 5 minutes; saves the results
	$(BIN)/python -m benchmarks $(ARGS)

bench-quick: .venv/bench  ## The same in under one minute, with less care; saves nothing
	$(BIN)/python -m benchmarks --quick $(ARGS)

profile: .venv/bench  ## Where the time of a turn goes; ARGS=--instructions counts them, with valgrind
	$(BIN)/python -m benchmarks.profile $(ARGS)

trace: .venv/bench  ## Which files of the package a message runs through
	$(BIN)/python -m benchmarks.trace

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/cli: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install $(QUIET) --editable '.[cli]'
	touch $@

.venv/test: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install $(QUIET) --editable '.[test]'
	touch $@

.venv/bench: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install $(QUIET) --editable '.[test,bench]'
	touch $@
