# Everything a newcomer or a developer runs. Needs Python 3.11 with its venv, and nothing else:
# each target makes .venv and installs what it uses, once, and again when the two files below change.

.DEFAULT_GOAL := help
.PHONY: help demo test test-peers lint format bench clean
.NOTPARALLEL:

VENV     := .venv
BIN      := $(VENV)/bin
SUITABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON   ?= $(shell for python in python3.11 python3; do \
	$$python -c '$(SUITABLE)' 2>/dev/null && echo $$python && break; done)
INSTALL  := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt
WORKERS  ?= 2

# What .venv holds and since when: these files are only dates.
RUNTIME  := $(VENV)/.installed
DEV      := $(VENV)/.installed-dev
PEERS    := $(VENV)/.installed-peers

help:
	@echo "chainrule: backpropagation for NumPy"
	@echo
	@echo "  make demo        watch a network learn handwritten digits: start here"
	@echo "  make test        run the tests"
	@echo "  make test-peers  compare every result with PyTorch, JAX and HIPS autograd"
	@echo "  make lint        check style, formatting, types and the order of imports"
	@echo "  make format      repair the style and formatting that can be repaired"
	@echo "  make bench       measure speed and memory beside those peers"
	@echo "  make clean       delete .venv, caches and builds; keeps your training runs"
	@echo
	@echo "The first call of each installs what it needs into .venv. One may choose the interpreter,"
	@echo "  make PYTHON=python3.12 demo"
	@echo "the number of test processes, and how hard the property tests look:"
	@echo "  make WORKERS=8 HYPOTHESIS_PROFILE=dev test"

demo: $(RUNTIME)
	@$(BIN)/chainrule train

# With one process per core, more threads in each would only get in each other's way.
test test-peers: export OMP_NUM_THREADS = 1

test: $(DEV)
	@$(BIN)/python -m pytest -n $(WORKERS) --ignore=tests/peers

test-peers: $(PEERS)
	@$(BIN)/python -m pytest -n $(WORKERS) tests/peers

lint: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV)
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

bench: $(PEERS)
	@$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist .hypothesis .*_cache
	find src tests benchmarks clinic examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

$(DEV):   EXTRAS = [dev]
$(PEERS): EXTRAS = [dev,peers]

$(RUNTIME) $(DEV) $(PEERS): pyproject.toml constraints.txt | $(VENV)/.made
	@echo "Installing chainrule$(EXTRAS) into $(VENV) (about a minute the first time) ..."
	@$(INSTALL) --editable '.$(EXTRAS)'
	@touch $@

$(VENV)/.made:
	@"$(PYTHON)" -c '$(SUITABLE)' 2>/dev/null || { \
		echo "chainrule needs Python 3.11 or later with its venv module, and found none as python3.11 or python3." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2; \
		exit 1; }
	@echo "Making $(VENV) with $$("$(PYTHON)" --version) ..."
	@"$(PYTHON)" -m venv $(VENV)
	@touch $@
