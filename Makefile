# The two commands of a newcomer: `make demo` and `make test`. Everything is set up on first use, in .venv.
.PHONY: demo demo-fleet test test-fast dev bench bench-spirit sweep-settings mutants lint check-defs format setup clean

PYTHON ?= python3
BIN := .venv/bin
DEMO_OPTIONS ?=
FLEET_OPTIONS ?=
PYTEST_OPTIONS ?=
BENCH_OPTIONS ?=
MUTANTS_OPTIONS ?=
# The compiled tests are kept, whatever the environment says: to compile them takes longer than half of the fast ones.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest --numprocesses 3

setup: .venv/ready

# Pinned by constraints.txt, which holds versions only: packages come from wherever pip is set up to look.
.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "Python 3.11 to 3.13 is needed; name one by 'make PYTHON=python3.11 ...'" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv is missing: on Debian, 'apt-get install python3-venv'" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[local,celery,test,lint]'
	@touch $@

# A real Postgres, real ClickHouse shards, data, drift, repair, proof. Starts the local stack in .local afresh.
demo: setup
	$(BIN)/reindex-assets demo $(DEMO_OPTIONS)

# The same with a fleet: 8 clusters of 95 customers, both kinds, drift everywhere, repaired by Dagster's daemon and its sensors.
# Smaller: make demo-fleet FLEET_OPTIONS="--clusters 3 --customers 9"
demo-fleet: setup
	$(BIN)/reindex-assets demo --fleet $(FLEET_OPTIONS)

# Three at a time, as much of it waits for Dagster, each with a local stack of its own. Which tests stay together, and in which order, is decided by
# reindex_assets_tests/support/distribution.py.
test: setup
	$(PYTEST) --dist loadfile --no-loadscope-reorder $(PYTEST_OPTIONS)

# Everything that needs no engines, in less than a minute: the loop of whoever changes the code.
test-fast: setup
	$(PYTEST) -m "not engines" $(PYTEST_OPTIONS)

# The Dagster UI with its daemon on the local stack, with data: http://127.0.0.1:3000
dev: setup
	$(BIN)/reindex-assets dev

# What it costs, on a stack of its own in .bench, which is removed at the end: tables, and benchmarks/results/*.json and *.md.
# A subject alone: make bench BENCH_OPTIONS="--only noop"; their names: .venv/bin/python -m benchmarks list
bench: .venv/bench
	$(BIN)/python -m benchmarks run --size small $(BENCH_OPTIONS)

# The same with the seeds' full replay and 4,845 partitions, judged by the bars: most of an hour on two cores, 10 GB of disk.
bench-spirit: .venv/bench
	$(BIN)/python -m benchmarks run --size spirit $(BENCH_OPTIONS)

# Every setting of both engines with every value, as a profile or a role would set it: hours. The table is for docs/settings.md.
sweep-settings: setup
	@for engine in clickhouse merge_tree postgres; do \
	  $(BIN)/python -m reindex_assets_tests.sweeps $$engine .sweep-$$engine.jsonl || exit 1; done

# Faults in the code that checks and writes, one at a time; its tests have to notice each. A sample of 12 of each module takes hours; what
# .mutants.jsonl holds isn't tried again. One module: make mutants MUTANTS_OPTIONS="--only reindex/writer --of-each 200"
mutants: .venv/mutants
	$(BIN)/python -m mutants .mutants.jsonl $(MUTANTS_OPTIONS)

.venv/mutants: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[local,test,mutants]'
	@touch $@

.venv/bench: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[local,bench]'
	@touch $@

lint: setup check-defs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# Dagster's own look at the project: its configuration, and its definitions with the example of a fleet file. Connects to nothing; the
# instance is an empty one, as that of dagster.yaml asks for a Postgres.
check-defs: setup
	@mkdir -p .venv/dagster && echo 'telemetry: {enabled: false}' >.venv/dagster/dagster.yaml
	$(BIN)/dg check toml
	DAGSTER_HOME="$(CURDIR)/.venv/dagster" REINDEX_FLEET=deploy/fleet.example.yaml $(BIN)/dg check defs

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	-$(BIN)/reindex-assets local reset --yes
	-$(BIN)/python -m benchmarks clean
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
