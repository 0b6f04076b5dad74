# Two commands do all the set-up: `make demo` and `make test`. They need Python >= 3.11, nothing else.

PYTHON      ?= python3
VENV        ?= .venv
CONSTRAINTS ?= .ci/constraints.txt
DEMO_OUT    ?= runs/demo
DEMO_FLAGS  ?=
GALLERY_OUT ?= runs/gallery

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow reference gallery lint build clean

help:           ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 16

# --no-compile: bytecode is made for what is imported, when it is imported; it halves the installation
$(VENV)/installed: pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --no-compile --constraint $(CONSTRAINTS) --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) install --quiet --no-compile --constraint $(CONSTRAINTS) --editable '.[test,lint]'
	touch $@

demo: $(VENV)/installed  ## set up, train DDPM on the embedded digits, sample, check: about three minutes on two cores
	$(BIN)/python examples/demo.py --out $(DEMO_OUT) $(DEMO_FLAGS)

# the tests start trainings beside themselves: threads that spin at a barrier would then wait for each other
test: $(VENV)/installed-dev  ## set up and run the tests (fast ones: minutes)
	OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

reference: $(VENV)/installed-dev  ## the recorded numbers of the original programs; LOGSNR_REFERENCE=folder for others
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest tests/reference_harness

test-slow: $(VENV)/installed-dev  ## the tests that take minutes each: twenty kills, the whole demo's quality
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -m slow

gallery: $(VENV)/installed  ## the papers' claims at reduced size: a few minutes; logsnr gallery --all for the rest
	OMP_WAIT_POLICY=passive $(BIN)/python -m logsnr gallery --quick --out $(GALLERY_OUT)

lint: $(VENV)/installed-dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

build: $(VENV)/installed-dev  ## a wheel, in dist/
	$(PIP) install --quiet build
	$(BIN)/python -m build --wheel

clean:          ## remove the environment and what was built
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
