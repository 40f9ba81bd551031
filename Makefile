# Two commands set everything up: `make demo` (Python 3.11, pip and make suffice) and `make test`.
# Everything is installed into .venv here; `make clean` takes it away again. The environment is inherited as it is,
# PYTHONPATH and TMPDIR included; to PYTEST_ADDOPTS something is added.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check
EXTRAS := sql,flask,sandbox,cli

.PHONY: help demo test check lint types floors bench pictures clean chromium
.DELETE_ON_ERROR:

help:
	@echo 'make demo          start bank and shop, buy once, leave both running (ONCE=1: stop after the purchase)'
	@echo 'make test          the tests, Chromium included'
	@echo 'make check         lint, types and floors; make -k check runs all of them'
	@echo 'make bench         the figures of benchmarks/'
	@echo 'make pictures      take the pictures of the README anew, in docs/pictures'
	@echo 'make clean         remove .venv and everything built'

# `exec`, so that signals reach the demo itself and its exit code is make's.
demo: $(VENV)/.demo
	@exec $(BIN)/python -m examples.demo

# Two workers; options of PYTEST_ADDOPTS come later on the command line and win.
test: $(VENV)/.test chromium
	@PYTEST_ADDOPTS="-n 2 $$PYTEST_ADDOPTS" exec $(BIN)/python -m pytest

check: lint types floors

lint: $(VENV)/.check
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.check
	$(BIN)/mypy

floors: $(VENV)/.check
	$(BIN)/lint-imports

bench: $(VENV)/.bench
	@exec $(BIN)/python -m benchmarks

pictures: $(VENV)/.test chromium
	@exec $(BIN)/python -m examples.pictures

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp needs the one before it, so that two installs never run at once, with `make -j` either.
$(VENV)/.pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'Python 3.11 or later is needed, but $(PYTHON) is not: name another, as in make PYTHON=python3.12' >&2; exit 1; }
	@echo 'Installing into $(VENV); this takes a minute …'
	@$(PYTHON) -m venv $(VENV) || { \
	  echo 'The venv module is needed (Debian and Ubuntu: the package python3-venv).' >&2; rm -rf $(VENV); exit 1; }
	@$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.demo: $(VENV)/.pip pyproject.toml setup.cfg
	@$(PIP) install --editable '.[$(EXTRAS)]' --group demo
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	@echo 'Installing what the tests need …'
	@$(PIP) install --group test
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	@$(PIP) install --group bench
	@touch $@

$(VENV)/.check: $(VENV)/.bench
	@echo 'Installing what the checks need …'
	@$(PIP) install --group check
	@touch $@

# The browser tests drive Debian's Chromium.
chromium:
	@[ -x /usr/bin/chromium ] && exit 0; \
	if [ "$$(id -u)" = 0 ]; then as_root=; \
	elif sudo -n true </dev/null 2>/dev/null; then as_root='sudo -n'; \
	else as_root=none; fi; \
	if [ "$$as_root" != none ] && command -v apt-get >/dev/null 2>&1; then \
	  echo 'Installing Chromium for the browser tests …'; \
	  $$as_root apt-get -qq update </dev/null && \
	  $$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium </dev/null >/dev/null; \
	fi; \
	[ -x /usr/bin/chromium ] || { \
	  echo 'The browser tests need Chromium: install the package "chromium" (apt-get install chromium), then make test again.' >&2; \
	  echo 'Without it, all other tests run by: $(BIN)/python -m pytest -m "not acceptance"' >&2; exit 1; }
