.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(wildcard protos/aigateway/v1/*.proto)
SERVICES := $(wildcard protos/aigateway/v1/*_service.proto)
STUBS := protos/gen/python

.PHONY: help install run test chaos soak check lint types protos protos-check lock lock-check docs docs-check breaking bench clean format

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements/runtime.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.txt -r requirements/build.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.runtime
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

install: $(VENV)/.dev ## make .venv with everything that the tests need

run: $(VENV)/.runtime ## start the gateway on 127.0.0.1:8080
	$(BIN)/aigateway up

test: install ## run the whole test suite
	$(BIN)/pytest

SECONDS ?= 60
chaos: install ## kills, drains, faults and attacks for SECONDS each, and tables of what came of them
	AIGATEWAY_CHAOS_SECONDS=$(SECONDS) $(BIN)/pytest tests/chaos -m chaos -s -q --deselect tests/chaos/test_soak.py

MINUTES ?= 30
soak: install ## mixed load for MINUTES, and whether any process grows
	AIGATEWAY_SOAK_MINUTES=$(MINUTES) $(BIN)/pytest tests/chaos/test_soak.py -s -q

check: install lock-check protos-check docs-check lint types test ## everything that CI runs

lint: install ## style, import rules, proto rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	cd protos && $(CURDIR)/$(BIN)/buf lint

types: install ## mypy, strict
	$(BIN)/mypy

format: install ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# $(call stubs,FOLDER): generate the stubs of every proto into FOLDER.
define stubs
	$(BIN)/python -m grpc_tools.protoc -I protos --python_out=$(1) \
	  --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --mypy_out=quiet,readable_stubs:$(1) $(PROTOS)
	$(BIN)/python -m grpc_tools.protoc -I protos --grpc_python_out=$(1) \
	  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc --mypy_grpc_out=quiet:$(1) $(SERVICES)
endef

protos: install ## write the stubs from the protos
	$(call stubs,$(STUBS))

protos-check: install ## fail when the stubs are not what the protos say
	@rm -rf build/stubs && mkdir -p build/stubs
	@$(call stubs,build/stubs)
	@diff -r -x __pycache__ -x __init__.py -x py.typed build/stubs $(STUBS) \
	  || { echo "stubs are out of date: run 'make protos'"; exit 1; }

docs: install ## write the facts that documents list from the code
	$(BIN)/python docs/facts.py

docs-check: install ## fail when documents and code differ
	@$(BIN)/python docs/facts.py --check

BASE ?= main
breaking: install ## fail when the protos break callers of branch BASE
	cd protos && $(CURDIR)/$(BIN)/buf breaking --against '../.git#branch=$(BASE),subdir=protos'

UV = $(BIN)/uv pip compile --quiet pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
lock: install ## write the locks from pyproject.toml, keeping what still fits
	$(UV) --extra dev -o requirements/dev.txt
	$(UV) -c requirements/dev.txt -o requirements/runtime.txt
	$(BIN)/uv pip compile --quiet requirements/build.in -c requirements/dev.txt --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -o requirements/build.txt

lock-check: install ## fail when the locks do not fit pyproject.toml
	@rm -rf build/lock && mkdir -p build/lock && cp requirements/*.txt requirements/build.in build/lock/
	@$(UV) --extra dev -o build/lock/dev.txt
	@$(UV) -c build/lock/dev.txt -o build/lock/runtime.txt
	@diff -q build/lock/dev.txt requirements/dev.txt && diff -q build/lock/runtime.txt requirements/runtime.txt \
	  || { echo "locks are out of date: run 'make lock'"; exit 1; }

bench: install ## measure embedded and split against one mock upstream, and write docs/performance.md
	$(BIN)/python -m bench && $(BIN)/python -m bench.page

clean: ## remove what make made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
