# What people do in this repository; `make help` lists it.
INVENTORY ?= poc
IMAGES ?= standins
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help demo destroy test test-fast soak lint bench lock setup

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

demo: ## A platform on this machine: INVENTORY=poc, IMAGES=standins (or pryv: Pryv's own images)
	@scripts/demo $(INVENTORY) $(IMAGES)

destroy: ## Remove all test hosts of this checkout
	@scripts/setup
	@python tests/fleet/fleet.py down

test: setup ## Every check and test
	@python tests/run.py

soak: setup ## What luck has a part in, ten times, all ports of all hosts, all faults, a quiet hour, and all rules on an emulated machine
	@SOAK_REPEATS=10 python tests/run.py express add_core_and_faults load poc privacy vm

test-fast: setup ## Linters and unit tests
	@python tests/run.py --fast

lint: setup ## Linters
	@python tests/run.py ruff format mypy yamllint ansible-lint

bench: ## Times, executions and memory of runs, and nginx, for docs/performance.md
	@scripts/setup
	@python tests/bench.py

lock: ## Pin requirements*.txt anew from pyproject.toml (needs uv)
	uv pip compile --quiet --python-version 3.12 --generate-hashes --no-emit-index-url --no-annotate \
		pyproject.toml --output-file requirements.txt
	uv pip compile --quiet --python-version 3.12 --generate-hashes --no-emit-index-url --no-annotate \
		pyproject.toml --group dev --output-file requirements-dev.txt

setup:
	@scripts/setup dev
