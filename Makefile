# Each target calls the tools; make only knows what must exist first.
#
#   PYTHON     the Python (3.11 or newer) that makes .venv
#   PIP_ARGS   what pip is told: constraints.txt while .venv has no torch, afterwards nothing, so that the torch which
#              is there stays. `make install PIP_ARGS=` takes pip's own choice of torch; an index of CPU builds, a
#              mirror or a wheel folder is named the same way.
#   VENV_ARGS  e.g. --system-site-packages, to use (and leave alone) the torch that a cluster has installed
#   RECIPE     what `make demo` runs

PYTHON ?= python3
VENV := .venv
PIP_ARGS ?= $(if $(wildcard $(VENV)/lib/python3*/site-packages/torch),,-c constraints.txt)
VENV_ARGS ?=
RECIPE ?= tiny-512-4k-yarn
FAST := not slow and not gpu
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: install demo test test-all bench lint

install: $(VENV)/installed

# The link is a name for pyright.
$(VENV)/installed: pyproject.toml constraints.txt
	@echo "[install 1/2] an environment of Python in $(VENV)"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV_ARGS) $(VENV)
	@echo "[install 2/2] torch, transformers, DeepSpeed and what they need: 2 to 10 minutes, in silence"
	@DS_BUILD_OPS=0 $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -e '.[dev]'
	@mkdir -p $(VENV)/types && ln -sfn ../.. $(VENV)/types/ropewalk
	@touch $@
	@echo "[install] done; . $(VENV)/bin/activate puts the command ropewalk on your PATH"

demo: export OMP_NUM_THREADS ?= 1
demo: install
	@echo "[demo 1/3] what the recipe $(RECIPE) would do: seconds"
	@ropewalk recipes check $(RECIPE)
	@echo "[demo 2/3] its data, tokenised, mixed and packed: half a minute"
	@ropewalk prepare $(RECIPE)
	@echo "[demo 3/3] measure the base, train, measure again: about 10 minutes on two cores"
	@torchrun --nproc-per-node 2 recipes/extend.py $(RECIPE)
	@echo "(first: . $(VENV)/bin/activate, which puts ropewalk and torchrun on your PATH)"

test: install
	pytest -m "$(FAST)"

test-all: install
	pytest -m "not gpu"

bench: install
	pytest --override-ini python_files='bench_*.py' --override-ini python_functions='bench_*' --timeout 0 --capture no tests/benchmarks

lint: install
	ruff check .
	ruff format --check .
	pyright
