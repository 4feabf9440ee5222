PYTHON ?= python3
BIN := .venv/bin
PLAN ?= subjects/plan.toml
WORKERS ?= 2

.PHONY: setup run test test-fast test-all check lint bench gpu server docs hashes format clean

# One set-up for every target: made once, made again when the files it follows from change.
setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python >= 3.11 is needed; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch setuptools wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,dev]'
	@touch $@

run: setup $(PLAN)
	$(BIN)/distill run $(PLAN)

# The default project: a folder of its own, with everything that the run writes.
subjects/plan.toml: | setup
	$(BIN)/distill init $@

PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# The checks of each change: everything but the tests marked slow.
test: lint
	$(PYTEST) -m 'not slow'

# While you work: neither whole commands (tests/flows) nor trainings (tests/train, marked trains).
test-fast: setup
	$(PYTEST) -m 'not slow and not trains' --ignore tests/flows --ignore tests/train

# The name that earlier versions had for it.
check: test

# Everything, also what is random and long.
test-all: lint
	$(PYTEST)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Speed as ratios against a peer or a limit of the same run; results go to docs/log.md.
bench: setup
	$(BIN)/python -m tests.bench.teacher rates
	$(BIN)/python -m tests.bench.teacher join
	$(BIN)/python -m tests.bench.teacher memory
	$(BIN)/python -m tests.bench.recipes rates
	$(BIN)/python -m tests.bench.recipes steps
	$(BIN)/python -m tests.bench.recipes memory
	$(BIN)/python -m tests.bench.toxicity
	$(BIN)/python -m tests.bench.dedup
	$(BIN)/python -m tests.bench.gate
	$(BIN)/python -m tests.bench.curate
	$(BIN)/python -m tests.bench.neighbour
	$(BIN)/python -m tests.bench.seeds
	$(BIN)/python -m tests.bench.generation
	$(BIN)/python -m tests.bench.training
	$(BIN)/python -m tests.bench.coverage
	$(BIN)/python -m tests.bench.ship
	$(BIN)/python -m tests.bench.prices
	$(BIN)/python -m tests.bench.archive

# On a machine with a GPU, with the torch and transformers of its own Python (PYTHON=...): no `setup`.
gpu:
	$(PYTHON) -m tests.gpu

# Prefect's server with PostgreSQL, for several workers: stops with Ctrl-C.
server: setup
	examples/server/start.sh

# The docs site, in site/; no network.
docs: setup
	$(BIN)/python -m mkdocs build --strict

# After a change of constraints.txt; needs `uv`, which finds the hashes without downloading the files.
hashes:
	uv pip compile constraints.txt --output-file constraints-hashes.txt --quiet --no-config --no-deps \
		--python-version 3.11.7 --generate-hashes --no-annotate --no-emit-index-url \
		--custom-compile-command 'make hashes'

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
