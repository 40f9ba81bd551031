# Two commands set everything up: `make demo` (Python 3.11, pip and make suffice) and `make test`.
# Everything is installed into .venv here; `make clean` takes it away again. The environment is inherited as it is,
# PYTHONPATH and TMPDIR included; to PYTEST_ADDOPTS something is added, and byte code may be written.

# The distribution's own Python where it will do: it is built with all optimisations, which one compiled at home seldom
# is, and what starts hundreds of processes takes a fifth less time with it. PYTHON=… names another.
PYTHON ?= $(shell /usr/bin/python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
  && echo /usr/bin/python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check
EXTRAS := sql,postgres,flask,celery,sandbox,cli

# Demonstration, tests and torture start hundreds of processes: each would compile the whole package for itself.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help demo demo-scale test check lint types floors bench bench-scale torture pictures clean chromium servers
.DELETE_ON_ERROR:

help:
	@echo 'make demo          start bank and shop, buy once, leave both running'
	@echo '                   (ONCE=1: stop after the purchase; ISSUER=antom, jpmorgan, jpmorgan-v1)'
	@echo 'make demo-scale    the same on PostgreSQL, Redis, gunicorn and Celery (ONCE=1 too)'
	@echo 'make test          the tests; Chromium, PostgreSQL and Redis are installed for them'
	@echo 'make check         lint, types and floors; make -k check runs all of them'
	@echo 'make bench         the figures of benchmarks/'
	@echo 'make bench-scale   those of a large inbox and of paid orders a second, on SQLite and PostgreSQL'
	@echo 'make torture       kill shop, worker and bank during 1,000 purchases, on SQLite and PostgreSQL (SEED=… repeats,'
	@echo '                   ISSUER=… has 200 made by the API of another bank)'
	@echo 'make pictures      take the pictures of the README anew, in docs/pictures'
	@echo 'make clean         remove .venv and everything built'

# `exec`, so that signals reach the demo itself and its exit code is make's.
demo: $(VENV)/.demo
	@exec $(BIN)/python -m examples.demo

# The same shop on PostgreSQL, Redis, gunicorn and Celery, in a temporary folder and on free ports.
demo-scale: $(VENV)/.demo servers
	@exec $(BIN)/python -m examples.demo.scale

# Three workers, since each waits for a bank now and then; options of PYTEST_ADDOPTS come later on the command line and win.
test: $(VENV)/.test $(VENV)/.antom chromium servers
	@PYTEST_ADDOPTS="-n 3 --dist worksteal $$PYTEST_ADDOPTS" exec $(BIN)/python -m pytest

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

# A few minutes, 8 GB in the folder for temporary files, and a machine that does nothing else.
bench-scale: $(VENV)/.bench servers
	@exec $(BIN)/python -m benchmarks scale

# Five minutes at most, for both databases together; what can be set is at the head of tests/torture/__main__.py.
torture: $(VENV)/.demo servers
	@exec $(BIN)/python -m tests.torture

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

# Ant's own client, against which our Antom dialect is tested. It pins an old cryptography: so it lives apart.
$(VENV)/.antom: $(VENV)/.test
	@echo "Installing Ant's own client beside …"
	@$(BIN)/python -m venv --without-pip $(VENV)/antom
	@$(PIP) --python $(VENV)/antom/bin/python install 'global-open-sdk-python==1.7.1'
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	@$(PIP) install --group bench
	@touch $@

$(VENV)/.check: $(VENV)/.bench
	@echo 'Installing what the checks need …'
	@$(PIP) install --group check
	@touch $@

# What comes from Debian: $(1) a test that says whether it is here, $(2) its packages, $(3) what it is for. One at a
# time, with `make -j` too.
define debian
	@{ $(1); } >/dev/null 2>&1 && exit 0; \
	if [ "$$(id -u)" = 0 ]; then as_root=; \
	elif sudo -n true </dev/null 2>/dev/null; then as_root='sudo -n'; \
	else as_root=none; fi; \
	if [ "$$as_root" != none ] && command -v apt-get >/dev/null 2>&1; then \
	  echo 'Installing $(2) for $(3) …'; \
	  $$as_root flock /run/lock env DEBIAN_FRONTEND=noninteractive sh -c \
	    'apt-get -qq update && apt-get -qq install -y --no-install-recommends $(2) >/dev/null' </dev/null; \
	fi; \
	{ $(1); } >/dev/null 2>&1 || { \
	  echo 'Needed for $(3): install $(2) (apt-get install $(2)), then make $@ again.' >&2; \
	  echo 'All tests that need neither browser nor servers: $(BIN)/python -m pytest -m "not acceptance"' >&2; exit 1; }
endef

# The browser tests drive Debian's Chromium without its desktop part, which no test sees and every test would pay for.
chromium:
	$(call debian,[ -x /usr/bin/chromium-headless-shell ],chromium-headless-shell,the browser tests)
	$(call debian,fc-list :lang=zh | grep -q .,fontconfig fonts-wqy-microhei,the browser tests in Chinese)

# PostgreSQL and Redis: their binaries alone are used, on ports and in folders of our own.
servers:
	$(call debian,ls /usr/lib/postgresql/*/bin/postgres && command -v redis-server,postgresql redis-server,the tests on PostgreSQL and Redis)
