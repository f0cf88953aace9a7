# make quickstart   install, then pre-train, evaluate and compare: 5 to 7 minutes on 2 cores
# make test         install, then lint, types, import contracts, unit and end-to-end tests
# make fast         the fast tests alone
# make test-slow    the longer proofs
# make measure      the figures of the README, by benchmarks/quickstart.py
# make measure-methods   that every method learns, and what its steps cost, by benchmarks/methods.py
# make audit        known advisories on what is installed, from PyPI's database; needs the network
# make clean        what make made; runs (.leoclr-ops) stay
# make bench        this project beside named peers, by benchmarks/everything.py

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo $$p && break; done)
BIN := .venv/bin
INSTALLED := .venv/.installed

# Ray's and MLflow's telemetry stay off, in tests too; byte code is written once, at installation.
export RAY_USAGE_STATS_ENABLED = 0
export MLFLOW_DISABLE_TELEMETRY = true

.PHONY: install quickstart test lint types contracts fast e2e test-slow measure measure-methods bench audit clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "leoclr-ops needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --constraint constraints.txt --editable '.[dev]'
	touch $@

quickstart: install
	$(BIN)/leoclr-ops submit quickstart

test: lint types contracts fast e2e

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install
	$(BIN)/mypy leoclr jobs orchestration benchmarks

contracts: install
	$(BIN)/lint-imports

fast: install
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

e2e: install
	$(BIN)/python -m pytest -q -m 'e2e and not slow' --timeout 900

test-slow: install
	$(BIN)/python -m pytest -q -m slow -n 3 --dist loadscope --timeout 1200

measure: install
	$(BIN)/python -m benchmarks.quickstart

measure-methods: install
	$(BIN)/python -m benchmarks.methods

bench: install
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev,bench]'
	$(BIN)/python -m benchmarks.everything

audit: install
	$(BIN)/uv pip freeze --quiet --python $(BIN)/python --exclude-editable > .venv/installed.txt
	$(BIN)/uv tool run pip-audit --strict --no-deps --disable-pip --requirement .venv/installed.txt

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
