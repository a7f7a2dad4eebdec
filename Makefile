# Two commands are enough on a fresh machine: `make demo` and `make test`, in any order.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
JOBS   ?= 2

.PHONY: help install demo demo-images test lint bench docs lock clean
.DELETE_ON_ERROR:

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## create .venv and install everything, versions pinned by requirements-lock.txt

# torch==2.13.0 goes first and by that exact spelling: a range may resolve to a build with gigabytes of CUDA.
# The last step builds with the hatchling of the lock and fetches nothing.
$(STAMP): pyproject.toml requirements-lock.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than 3.11, give a newer one: make install PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "error: $(PYTHON) cannot make $(VENV), install python3-venv" >&2; exit 2; }
	@echo "installing into $(VENV), which takes a few minutes the first time"
	$(PIP) install torch==2.13.0
	$(PIP) install -r requirements-lock.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: $(STAMP)  ## simulated site: train, judge clean and attacked examinations, table and plots
	$(BIN)/scanward demo

demo-images: $(STAMP)  ## phantoms: train the CycleGAN, insert and remove lesions, evaluate
	$(BIN)/scanward demo-images

test: lint  ## ruff, mypy --strict, pytest
	$(BIN)/python -m pytest -n $(JOBS)

lint: $(STAMP)  ## ruff and mypy alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)  ## every benchmark; figures land in build/bench
	$(BIN)/python -m benchmarks.run_all

docs: $(STAMP)  ## write the generated pages again: docs/cli.md and docs/settings.md
	$(BIN)/python -m tests.update_docs

lock: $(STAMP)  ## pin what .venv holds in requirements-lock.txt
	echo '# Every package of .venv, pinned. `make lock` writes this file; `make install` reads it.' > $@.tmp
	$(BIN)/python -m pip freeze --exclude scanward | sed -n 's/^\([^ @]*==[^+ ]*\).*/\1/p' >> $@.tmp
	mv $@.tmp requirements-lock.txt

clean:  ## remove what the targets made
	rm -rf $(VENV) build dist scanward-demo scanward-demo-images .mypy_cache .ruff_cache .pytest_cache .hypothesis
