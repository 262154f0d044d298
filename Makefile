# The front door. `make` lists the targets; each one sets up what it needs.
#
# Registries, proxies and certificates come from the environment (PIP_*, UV_*), never from here.

VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)

BIN := $(VENV)/bin
UV := $(BIN)/uv

# The released SDK depends on other versions than ours may, so it lives apart from them.
FLAMEPY_VENV := .venv-flamepy
export FLAME_TEST_FLAMEPY_PYTHON := $(CURDIR)/$(FLAMEPY_VENV)/bin/python

# So do the systems that the benchmarks compare with.
PEERS_VENV := .venv-bench

# uv does not read pip's configuration; where only pip's index is set, it counts for both.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv run test bubblewrap check check-format check-lint check-types check-imports \
	format bench bench-peers bench-compiled chaos sim proto lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# Bytecode beforehand, as any installed program has it: where Python may not write it itself
# (PYTHONDONTWRITEBYTECODE, common in containers), every process would compile all it imports.
venv: $(VENV)/.stamp ## Create the environment: pinned tools, and flame in editable form
	@$(BIN)/python -m compileall -q src

run: venv ## Start an embedded cluster, ping it, run an example, stop it
	@$(BIN)/python -m flame.cli.quickstart

test: venv $(FLAMEPY_VENV)/.stamp bubblewrap check ## Everything that must pass: check, then all tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

# Sandboxes are made by it; no registry of Python packages has it.
bubblewrap:
	@command -v bwrap >/dev/null || sh scripts/install_bubblewrap.sh

check: check-format check-lint check-types check-imports ## Format, lint, types, import contracts

check-format: venv
	$(BIN)/ruff format --check .

check-lint: venv
	$(BIN)/ruff check .

check-types: venv
	$(BIN)/mypy

check-imports: venv
	$(BIN)/lint-imports

format: venv ## Format the code and apply safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: venv $(FLAMEPY_VENV)/.stamp ## Run the benchmarks (ten minutes), print the targets beside what was measured
	$(BIN)/python -m benchmarks --peers --append benchmarks/results.jsonl
	$(BIN)/python -m benchmarks.table benchmarks/results.jsonl

bench-peers: venv $(PEERS_VENV)/.stamp ## Install what Flame is compared with (Ray, Dask, ...), and compare
	$(BIN)/python -m benchmarks --peers throughput latency --append benchmarks/results.jsonl
	$(BIN)/python -m benchmarks.table benchmarks/results.jsonl

bench-compiled: venv ## Compile the core (needs a C compiler), and compare with it as it is
	$(BIN)/python -m benchmarks.compiled

# Such as SEED=7 MINUTES=30 ONLY=R1,R6; BUG=DropsARecord plants a bug, which must be found.
chaos: venv ## Break clusters of real processes, and check what they promise
	$(BIN)/python -m tests.chaos --seed $(or $(SEED),1) --minutes $(or $(MINUTES),0) \
		$(if $(ONLY),--only $(ONLY)) $(if $(BUG),--bug $(BUG))

sim: venv ## Whole clusters in virtual time, from SEEDS=20000 seeds
	FLAME_SIMULATION_SEEDS=$(or $(SEEDS),20000) FLAME_SIMULATION_FIRST=$(or $(FIRST),0) \
		$(BIN)/python -m pytest -q -n auto tests/simulation

proto: venv ## Generate src/flame/wire/pb from proto/
	$(BIN)/python scripts/generate_protos.py

# No --upgrade: a pin moves only where pyproject.toml asks, or when its line is deleted first.
LOCK := $(UV) pip compile --quiet --python-version 3.11 --universal --generate-hashes --no-header
lock: venv ## Pin the dependencies of pyproject.toml again, with hashes and without addresses
	$(LOCK) pyproject.toml -o requirements/run.txt
	$(LOCK) pyproject.toml --extra dev -c requirements/run.txt -o requirements/dev.txt
	$(LOCK) pyproject.toml --extra bench -c requirements/run.txt -o requirements/bench.txt
	for name in bootstrap flamepy; do \
		grep -oE '^[a-z][^ ]*==[^ ]+' requirements/$$name.txt \
		| $(LOCK) - --no-annotate -o requirements/$$name.txt || exit 1; \
	done

clean: ## Remove caches and build products (the environments stay)
	rm -rf build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests benchmarks examples scripts -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# A stamp is newer than what it was made from, or the environment is brought up to date.
# Hashes are checked throughout, and the build uses the pinned setuptools (no isolation).
$(VENV)/.stamp: pyproject.toml requirements/bootstrap.txt requirements/dev.txt
	@test -n "$(PYTHON)" || { echo "No python3 found; set PYTHON to a Python 3.11 or newer." >&2; exit 1; }
	@echo "Setting up $(VENV) with $(PYTHON) ..."
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@test -x $(UV) || $(BIN)/python -m pip install --quiet --require-hashes -r requirements/bootstrap.txt
	@$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python \
		requirements/bootstrap.txt requirements/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(FLAMEPY_VENV)/.stamp: requirements/flamepy.txt | $(VENV)/.stamp
	test -x $(FLAMEPY_VENV)/bin/python || "$(PYTHON)" -m venv --without-pip $(FLAMEPY_VENV)
	$(UV) pip sync --quiet --python $(FLAMEPY_VENV)/bin/python requirements/flamepy.txt
	@touch $@

$(PEERS_VENV)/.stamp: pyproject.toml requirements/bootstrap.txt requirements/bench.txt | $(VENV)/.stamp
	test -x $(PEERS_VENV)/bin/python || "$(PYTHON)" -m venv --without-pip $(PEERS_VENV)
	$(UV) pip sync --quiet --compile-bytecode --python $(PEERS_VENV)/bin/python \
		requirements/bootstrap.txt requirements/bench.txt
	$(UV) pip install --quiet --python $(PEERS_VENV)/bin/python --no-deps --no-build-isolation --editable .
	@touch $@
