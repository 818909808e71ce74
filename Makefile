# make demo    set up, then run a small lab over real loopback sockets
# make test    set up, then run the whole test suite: first what takes long and adds nothing to the coverage,
#              then the rest with branch coverage
# make check   ruff, mypy --strict, and the rule that layers import only downwards
# make test-others    the suite on every other supported Python that is found
# make benchmarks     ARGS="--peer sipyco=PATH --peer pyacq=PATH"
# make clean   remove what the above made
#
# PYTHON=... chooses the interpreter; by default the first one found that is new enough.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
# A worker that ends is not replaced: with loadfile, xdist would wait for the new one for ever.
PARALLEL := --numprocesses=auto --maxprocesses=4 --dist=loadfile --max-worker-restart=0
UNMEASURED := tests/lab tests/benchmarks tests/test_docs.py tests/testing/test_hanging_tests.py
BIN := $(VENV)/bin

.PHONY: demo test check test-others benchmarks clean

demo: $(VENV)/installed
	$(BIN)/trionet demo

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest $(PARALLEL) $(UNMEASURED)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PARALLEL) $(UNMEASURED:%=--ignore=%)
	$(BIN)/coverage combine --quiet
	@rm -f .coverage.*  # of processes that were killed while they wrote it
	$(BIN)/coverage report

check: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

test-others:
	.ci/test-others

benchmarks: $(VENV)/installed-dev
	$(BIN)/python -m pip install --quiet -e '.[benchmarks]'
	$(BIN)/python -m tests.benchmarks $(ARGS)

clean:
	rm -rf .venv .venv-3.* .coverage .coverage.* .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/created:
	@test -n "$(PYTHON)" || { echo "trionet needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@touch $@

$(VENV)/installed: $(VENV)/created pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

# The peers of tests without their dependencies: those are 700 MB that are not imported.
$(VENV)/installed-dev: $(VENV)/created pyproject.toml tests/interop/peers.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,qt]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/interop/peers.txt
	@touch $@ $(VENV)/installed
