# sessiond. `make` explains itself; nothing is needed but Python >= 3.11, make and a package index.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Three workers keep two cores busy: many tests wait for a time to pass, or for another process.
WORKERS ?= 3
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
ARGS ?=
# The version of npm's @copilotkit/aimock.
AIMOCK := 1.43.0

# Without caches of bytecode, each process that the tests start compiles all modules: half of the CPU time of a server's start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup run aimock ts ts-test ts-protos test test-unit test-sql test-all adapters-test languages languages-test test-matrix lint format types protos protos-check sync sync-check bench bench-quick docs docs-serve constraints ci clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  ARGS=... passes flags on, e.g. make run ARGS='--listen localhost:50052', make test ARGS='-k import'"

setup: $(VENV)/.done ## Make the virtual environment .venv with everything in it

$(VENV)/.done: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sessiond needs Python 3.11 or newer; make PYTHON=python3.x names another")'
	@scripts/make-environment $(PYTHON) $(VENV) --constraint constraints.txt --editable '.[server,console,dev]'
	@touch $@

run: setup ## Serve on localhost:50051 and a console on localhost:8321, on the embedded PostgreSQL unless SESSIOND_DATABASE_URL names another
	@$(BIN)/sessiond serve --console localhost:8321 $(ARGS)

aimock: ## Install aimock, a stand-in for the providers, with npm; without it the tests that need it are skipped
	@if [ ! -e .aimock/$(AIMOCK) ] && command -v npm >/dev/null; then \
		npm install --prefix .aimock --silent --no-audit --no-fund @copilotkit/aimock@$(AIMOCK) && touch .aimock/$(AIMOCK) \
		|| echo "aimock: npm could not install it; its tests are skipped"; \
	fi

test: setup aimock ## Run the tests, but for the long ones; SQL_PASSED=1 leaves out those that test-sql runs on any PostgreSQL
	$(PYTEST) -m 'not slow$(if $(SQL_PASSED), and (not sql or every_postgres))' $(ARGS)

test-unit: setup ## Run the tests that need no database, in seconds
	$(PYTEST) -m unit $(ARGS)

test-sql: setup ## Run the tests that prove something about SQL
	$(PYTEST) -m 'sql and not slow' $(ARGS)

test-all: setup aimock ## Run all tests: crashes under load, a million messages
	$(PYTEST) $(ARGS)

languages: setup .venv-protos/.done ## Build the examples in Go, Java and Rust, and the gateway, with the toolchains that are here
	scripts/build-languages

languages-test: languages ## Test them, and what each language reads of the others
	$(PYTEST) tests/languages $(ARGS)

adapters-test: ## Test the adapters, each with its framework in an environment of its own; ARGS='--quick openai-agents -- -x'
	$(PYTHON) scripts/adapters-test $(ARGS)

test-matrix: ## Run the tests on several versions of Python and PostgreSQL (an hour)
	scripts/test-matrix

lint: setup sync-check ## Check style, import directions, sizes of files and packages, protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=client:server $(BIN)/lint-imports
	$(BIN)/python scripts/check-sizes
	cd protos && ../$(BIN)/buf lint
	scripts/check-breaking

format: setup ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup ## Check types, strictly
	$(BIN)/mypy

protos: .venv-protos/.done ## Generate the stubs in client/sessiond/v1, what reflection serves, and the TypeScript stubs
	PATH=$(CURDIR)/.venv-protos/bin:$$PATH .venv-protos/bin/python scripts/generate-protos
	@$(MAKE) --no-print-directory ts-protos

protos-check: .venv-protos/.done ## Check that what is generated is what the protos say
	@rm -rf build/protos-check
	@PATH=$(CURDIR)/.venv-protos/bin:$$PATH .venv-protos/bin/python scripts/generate-protos build/protos-check
	diff --recursive --exclude=__pycache__ build/protos-check/client/sessiond/v1 client/sessiond/v1
	cmp build/protos-check/server/sessiond_server/rpc/descriptors.binpb server/sessiond_server/rpc/descriptors.binpb

# Runs commands in the TypeScript client, where there is npm. A make variable, so that each target says why it is skipped.
IN_TS = @if ! command -v npm >/dev/null; then echo "$@: skipped, there is no npm"; else cd client/typescript && \
	{ [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --silent --no-audit --no-fund; } &&

ts-protos: .venv-protos/.done ## Generate the stubs and the errors of the TypeScript client
	$(IN_TS) npm run --silent generate; fi

ts: .venv-protos/.done ## Check the TypeScript client: stubs, style, types, package
	$(IN_TS) npm run --silent generate -- --check && npm run --silent lint && npm run --silent lint:package; fi

ts-test: setup ## Run the tests of the TypeScript client; ARGS=--quick leaves out the long ones
	$(IN_TS) npm run --silent check:adapters && node scripts/test.mjs $(ARGS); fi

.venv-protos/.done: scripts/protos-requirements.txt
	@scripts/make-environment $(PYTHON) .venv-protos --requirement scripts/protos-requirements.txt
	@touch $@

sync: setup ## Generate the sync client from the async one
	$(BIN)/python scripts/generate-sync-client

sync-check: setup ## Check that the sync client is up to date
	$(BIN)/python scripts/generate-sync-client --check

bench: .venv-bench/.done ## Measure against what people use instead (a few minutes)
	.venv-bench/bin/python benchmarks/run.py $(ARGS)

bench-quick: .venv-bench/.done ## The same, ten times smaller: says whether it runs, not how fast
	.venv-bench/bin/python benchmarks/run.py --quick $(ARGS)

.venv-bench/.done: pyproject.toml constraints.txt benchmarks/constraints.txt benchmarks/requirements.txt
	@mkdir -p build
	@# openai-agents excludes the version that the project pins.
	@grep -v '^websockets==' constraints.txt > build/bench-constraints.txt
	@scripts/make-environment $(PYTHON) .venv-bench --constraint build/bench-constraints.txt \
		--constraint benchmarks/constraints.txt --editable '.[server]' --requirement benchmarks/requirements.txt
	@touch $@

docs: .venv-docs/.done ## Build the documentation's site in build/site, strictly, and check its links
	.venv-docs/bin/python scripts/generate-reference
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict
	.venv-docs/bin/python scripts/check-links build/site

docs-serve: .venv-docs/.done ## Show the site on localhost:8000 while it is written
	.venv-docs/bin/python scripts/generate-reference
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs serve

.venv-docs/.done: pyproject.toml docs/constraints.txt
	@scripts/make-environment $(PYTHON) .venv-docs --constraint docs/constraints.txt --editable '.[server,console,docs]'
	@touch $@

constraints: ## Pin what fresh environments install today
	scripts/pin-constraints $(PYTHON) server,console,dev constraints.txt
	scripts/pin-constraints $(PYTHON) server,console,docs docs/constraints.txt

ci: ## What the build server runs
	.ci/run

clean: ## Remove environments and caches
	rm -rf client/typescript/node_modules client/typescript/dist .venv .venv-* docs/reference/generated .aimock build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
