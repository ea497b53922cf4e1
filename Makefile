# The two commands of a newcomer: `make demo` and `make test`. Everything is set up on first use, in .venv.
.PHONY: demo test dev lint format setup clean

PYTHON ?= python3
BIN := .venv/bin
DEMO_OPTIONS ?=
PYTEST_OPTIONS ?=

setup: .venv/ready

# Pinned by constraints.txt, which holds versions only: packages come from wherever pip is set up to look.
.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "Python 3.11 to 3.13 is needed; name one by 'make PYTHON=python3.11 ...'" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv is missing: on Debian, 'apt-get install python3-venv'" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[local,test,lint]'
	@touch $@

# A real Postgres, real ClickHouse shards, data, drift, repair, proof. Starts the local stack in .local afresh.
demo: setup
	$(BIN)/reindex-assets demo $(DEMO_OPTIONS)

# Two at a time, each with a local stack of its own; the tests of one file stay together.
test: setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(PYTEST_OPTIONS)

# The Dagster UI with its daemon on the local stack, with data: http://127.0.0.1:3000
dev: setup
	$(BIN)/reindex-assets dev

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	-$(BIN)/reindex-assets local reset --yes
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
