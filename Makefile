# thumbproxy: what one does with a checkout. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export PYTHON ?= python3
# Hundreds of processes are started: what Python has compiled for one counts for the next.
unexport PYTHONDONTWRITEBYTECODE
# Debian keeps nginx out of the path of ordinary users.
export PATH := $(PATH):/usr/sbin:/sbin

bin := .venv/bin
ready := pyproject.toml constraints.txt scripts/setup.sh scripts/pillow-simd.sh

.PHONY: help demo setup lint types test core trixie bench serving pressure soak pictures reference build clean

help:  ## list these targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 16

demo: .venv/.run  ## set up, then show sample pictures on a page: make demo ARGS="--photos ~/Pictures"
	$(bin)/thumbproxy demo $(ARGS)

setup: .venv/.test  ## set up for running and testing, and no more

lint: .venv/.test  ## style: ruff
	$(bin)/ruff check .
	$(bin)/ruff format --check .

types: .venv/.test  ## types: mypy, strict
	$(bin)/mypy

test: lint types  ## set up, then all checks and all tests: make test ARGS="-k nginx"
	$(bin)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS) || \
		{ echo "What failed is run once more, without the neighbours:" >&2; \
		$(bin)/python -m pytest --last-failed --last-failed-no-failures none $(ARGS); }

# Rules, real memcached, real servers, render processes, wheels: what another Python could break.
core := $(addprefix tests/test_,$(addsuffix .py,options urls signing settings negotiate freshness \
	http_dates structured thumbnails caches memcached service forking rendering_processes \
	rendering_sandbox imaging_engine draining lifecycle packaging import_cost))

core: .venv/.test  ## the tests that tell whether a Python will do: make core PYTHON=python3.13
	$(bin)/python -m pytest -n 2 --dist loadfile $(core) $(ARGS)

trixie: .venv/.test  ## `make core` on a bare Debian 13, with its Python 3.13: needs root
	$(bin)/python scripts/on-debian.py trixie make core

bench: .venv/.bench  ## our engine beside others: make bench PHOTOS=folder ARGS=--quick
	@test -n "$(PHOTOS)" || { echo "Which photos? make bench PHOTOS=folder" >&2; exit 2; }
	$(bin)/python -m benchmarks.engine $(PHOTOS) $(ARGS)

serving: .venv/.test  ## hits beside gunicorn and nginx: make serving ARGS="--rounds 3"
	$(bin)/python -m benchmarks.serving $(ARGS)

pressure: .venv/.test  ## hits beside ten times the misses that can be made
	$(bin)/python -m benchmarks.pressure $(ARGS)

soak: .venv/.test  ## a mixed load and faults, for some minutes: make soak ARGS="--minutes 30"
	$(bin)/python -m benchmarks.soak $(ARGS)

pictures: .venv/.test  ## the pictures of README.md and docs/options.md, made again
	$(bin)/python scripts/readme-picture.py
	$(bin)/python scripts/option-pictures.py

reference: .venv/.test  ## what the docs have of the code: settings and the API
	$(bin)/python scripts/settings-reference.py
	$(bin)/python scripts/api-reference.py

build: .venv/.test  ## the wheel and the source archive, in dist/
	$(bin)/hatchling build --clean dist

clean:  ## remove everything that the set-up and the tools made
	rm -rf .venv dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp says for what .venv is ready. What is enough for tests is enough for the demo.
.venv/.run: $(ready)
	scripts/setup.sh run
	touch $@

.venv/.test: $(ready)
	scripts/setup.sh test
	touch .venv/.run $@

.venv/.bench: $(ready)
	scripts/setup.sh bench
	touch .venv/.run $@
