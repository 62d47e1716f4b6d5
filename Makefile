# The same words here, in CI and for users. Only Python 3.11 (with venv) and make are needed.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed
FIRST := $(shell command -v $(PYTHON) || command -v python3)

UNITS := tests --ignore=tests/house --ignore=tests/sim
# The databases of tests in memory, where the machine has a place for that (in a container often
# 64 MB, so what passed is not kept); compiled tests are kept.
IN_MEMORY := $(if $(wildcard /dev/shm/.),PYTEST_DEBUG_TEMPROOT=/dev/shm) PYTHONDONTWRITEBYTECODE=
BRIEFLY := --brief --ignore=tests/live -o tmp_path_retention_policy=failed

.PHONY: setup demo test check fast unit live sim docker bench soak lock

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(FIRST) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed; found: $$($(FIRST) --version). Set PYTHON=..."; exit 1; }
	$(FIRST) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $(STAMP)

demo: setup
	$(BIN)/hub demo

test: setup check unit sim live

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m hub.contract.check
	$(BIN)/hub config check
	$(BIN)/pytest -q tests/house

# On two cores within 15 seconds, so nothing here starts a process, waits or searches long.
fast: setup
	$(IN_MEMORY) $(BIN)/pytest -q -n 2 -m "not live and not slow and not docker" $(BRIEFLY) $(UNITS)

unit: setup
	$(BIN)/pytest -q -n 2 -m "not live and not docker" $(UNITS)

sim: setup
	$(BIN)/pytest -q tests/sim

live: setup
	$(BIN)/pytest -q -m live tests

# Kafka in a container, where an engine answers. It fails without one.
docker: setup
	$(BIN)/pytest -q -m docker tests

bench: setup
	$(BIN)/python -m bench

soak: setup
	$(BIN)/python -m bench.soak

lock: setup
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--extra dev pyproject.toml -o requirements.lock
	$(BIN)/python -m hub.broker.jars
