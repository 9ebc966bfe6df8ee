# From a clone to a running cockpit, with nothing but python3 (3.11 or newer), git and make.
#
#   make demo          install into .venv and open the cockpit on a sample lab that is really training
#   make test          install what the tests need and run them
#   make test-slurm    run the tests of the Slurm executor on a real Slurm on loopback (installs Debian's, which needs root)
#   make check         ruff, mypy --strict, import-linter
#   make detectors     plant failures in the sample lab and see which detector catches each (minutes)
#   make bench         run the benchmarks, one after the other
#   make proposers     what recorded proposals and a sweep find on the sample lab with equally many shards (a quarter of an hour)
#   make clean-demo    stop the demo lab's engine and delete the lab
#   make clean         delete .venv and caches (the demo lab stays)
#
# Settings, as `make demo NAME=value`:
#   DEMO_DIR      where the demo lab lies (demo-lab)
#   DEMO_ARGS     further arguments of `cockpit demo`, e.g. "--headless --approve-all --until 4"
#   TEST_ARGS     further arguments of pytest, e.g. "tests/test_lab.py -k duration"
#   TEST_JOBS     how many files of tests run at a time (2); 0 for all in one process
#   PYTHON        interpreter to build .venv with; left out: python3, else the first of the versioned names that will do
#   PIP_ARGS      further arguments of `pip install`. Which build of torch you get is your package index's choice; on
#                 PyPI for Linux it is a large one with CUDA. For another:
#                   make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
#   CONSTRAINTS   file of pinned versions; empty for the newest that pyproject.toml allows (your GPU may want a newer torch)
#   VENV_ARGS     further arguments of `python -m venv`; --system-site-packages to use a torch that is already there
#
# Paths in rules are relative, so that a checkout below a directory with spaces in its name works.

SHELL := /bin/sh
.DEFAULT_GOAL := help
DEMO_DIR ?= demo-lab
DEMO_ARGS ?=
TEST_ARGS ?=
TEST_JOBS ?= 2
PYTHON ?=
PIP_ARGS ?=
CONSTRAINTS ?= constraints.txt
VENV_ARGS ?=

BIN := .venv/bin
PY := $(BIN)/python
PIP := $(PY) -m pip --disable-pip-version-check install --quiet $(PIP_ARGS) $(if $(CONSTRAINTS),-c "$(CONSTRAINTS)")
# pip compiles what it copies, which an editable install is not; where PYTHONDONTWRITEBYTECODE is set every start would compile anew
COMPILE := $(PY) -m compileall -q cockpit engine

.PHONY: help demo test test-slurm check detectors bench proposers clean clean-demo

help:
	@sed -n 's/^#   make /  make /p' Makefile

demo: .venv/.installed-lab
	@$(BIN)/cockpit demo --dir "$(DEMO_DIR)" $(DEMO_ARGS)

# The threats see how long an engine takes to answer while shards do their worst: they have the machine to themselves.
test: .venv/.installed-dev
ifeq ($(strip $(TEST_ARGS)),)
	@status=0; \
	$(PY) -m pytest -n $(TEST_JOBS) --dist loadfile --ignore tests/threats --ignore tests/slurm || status=1; \
	$(PY) -m pytest tests/threats || status=1; \
	exit $$status
else
	@$(PY) -m pytest -n $(TEST_JOBS) --dist loadfile $(TEST_ARGS)
endif

# A controller and two node daemons of a cluster of its own, on loopback: nothing of it is left behind but the packages.
test-slurm: .venv/.installed-dev
	@for each in slurmctld slurmd munged faketime; do command -v $$each >/dev/null 2>&1 || missing=1; done; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then \
	    echo "the tests of the Slurm executor need slurmctld, slurmd, munged and faketime, and root to start them:" >&2; \
	    echo "on Debian and Ubuntu: sudo apt-get install -y --no-install-recommends slurm-wlm munge faketime" >&2; exit 1; fi; \
	  echo "installing slurm-wlm, munge and faketime"; \
	  install="apt-get install -y -qq -o Acquire::Retries=3 --no-install-recommends slurm-wlm munge faketime"; \
	  DEBIAN_FRONTEND=noninteractive; export DEBIAN_FRONTEND; \
	  $$install >/dev/null 2>&1 || { apt-get update -qq -o Acquire::Retries=3 && $$install >/dev/null; } || exit 1; fi; \
	$(PY) -m pytest -n $(TEST_JOBS) --dist loadfile tests/slurm $(TEST_ARGS)

check: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

detectors: .venv/.installed-dev
	@$(PY) -m tests.planting $(TEST_ARGS)

bench: .venv/.installed-dev
	@set -e; for each in benchmarks/*.py; do \
	  case "$$each" in benchmarks/proposers.py|benchmarks/verdicts.py) ;; *) echo "== $$each"; $(PY) "$$each";; esac; done

proposers: .venv/.installed-dev
	@nice $(PY) benchmarks/proposers.py

# Told to end, the launcher stops the shards first; without ps it ends by itself once its directory is gone.
clean-demo:
	@if [ ! -d "$(DEMO_DIR)" ]; then echo "there is no $(DEMO_DIR)"; exit 0; fi; \
	if [ ! -f "$(DEMO_DIR)/cockpit.toml" ] || [ ! -d "$(DEMO_DIR)/.cockpit" ]; then \
	  echo "$(DEMO_DIR) is not a demo lab: left alone" >&2; exit 1; fi; \
	if [ -x $(BIN)/cockpit ]; then bin="$$PWD/$(BIN)/cockpit"; (cd "$(DEMO_DIR)" && "$$bin" down) || exit 1; fi; \
	pid=$$(sed -n 's/.*"pid": *\([0-9][0-9]*\).*/\1/p' "$(DEMO_DIR)/.cockpit/launcher.lock" 2>/dev/null); \
	if [ -n "$$pid" ] && ps -p "$$pid" -o args= 2>/dev/null | grep -q "engine.shards.launcher"; then \
	  kill "$$pid"; while kill -0 "$$pid" 2>/dev/null; do sleep 0.2; done; fi; \
	chmod -R u+w "$(DEMO_DIR)" && rm -rf "$(DEMO_DIR)" && echo "stopped and deleted $(DEMO_DIR)"

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist ./*.egg-info

.venv/.installed-lab: pyproject.toml $(CONSTRAINTS) | $(PY)
	@echo "installing the cockpit and what the sample lab needs (torch is large: this takes minutes the first time)"
	@$(PIP) -e ".[lab,box]"
	@$(COMPILE)
	@touch $@

.venv/.installed-dev: pyproject.toml $(CONSTRAINTS) | $(PY)
	@echo "installing the cockpit, what the sample lab needs, and the tools for tests and checks"
	@$(PIP) -e ".[lab,box,claude,dev]"
	@$(COMPILE)
	@touch .venv/.installed-lab $@

# A version manager's python3.12 may exist and still refuse to run, so each name is asked, not looked for.
$(PY):
	@found=""; seen=""; \
	for each in $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11 python3.14); do \
	  version=$$("$$each" -c 'import platform; print(platform.python_version())' 2>/dev/null) || continue; \
	  seen="$$seen $$each is $$version;"; \
	  if "$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then found="$$each"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "Python 3.11 or newer is needed;$${seen:- no $(if $(PYTHON),$(PYTHON),python3) was found;}" >&2; \
	  echo "install one, then: make PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	  minor=$$("$$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  echo "$$found ($$version) cannot make virtual environments: its venv or ensurepip module is missing." >&2; \
	  echo "On Debian and Ubuntu: apt install python$$minor-venv" >&2; exit 1; \
	fi; \
	echo "making .venv with $$found ($$version)"; \
	"$$found" -m venv $(VENV_ARGS) .venv || { rm -rf .venv; exit 1; }
