# The one list of what one can do here. `make help` prints it.
# Needs Python 3.11+, make and a package index; everything else is installed into .venv.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint requirements/constraints.txt
# tests that need the whole data set belong to `make verify`, those that need Node.js to `make replay-node`, those that
# need helm and what checks manifests to `make check-deploy`, those that need Prometheus's promtool to `make alerts`
PYTEST := $(BIN)/python -m pytest
SOURCES := app training tests benchmarks clients deploy
PROTOS := app/protocols/grpc
protoc = $(BIN)/python -m grpc_tools.protoc --proto_path=. --pyi_out=$(or $(1),.) \
	--descriptor_set_out=$(1)$(PROTOS)/protos.binpb $(PROTOS)/*.proto

.DEFAULT_GOAL := help
.PHONY: help serve test quick verify replay-node alerts check check-deploy manifests format protos schema train models bench bench-quick drills image test-image clean

help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | awk -F '\t' '{printf "  make %-12s %s\n", $$1, $$2}'

serve: $(VENV)/.service ## set up and run the service on the trained models in this repository
	$(BIN)/python -m app serve

test: $(VENV)/.dev ## set up and pass the tests, with branch coverage of the service
	$(PYTEST) -n auto -m "not needs_data and not needs_node and not needs_helm and not needs_promtool" --cov --cov-report=term

quick: $(VENV)/.dev ## the tests that take no more than a second each
	$(PYTEST) -n auto -m "not needs_data and not needs_node and not needs_helm and not needs_promtool and not slow"

verify: $(VENV)/.dev ## hold the service against every picture of the test set (needs Fashion-MNIST, see docs)
	$(PYTEST) -m needs_data

replay-node: $(VENV)/.dev ## replay every golden row in Node.js, through onnxruntime-node (needs node 20 and npm)
	cd tests/node && npm ci --ignore-scripts --no-audit --no-fund
	$(PYTEST) -m needs_node

alerts: $(VENV)/.dev ## hold the alert rules and the dashboard against promtool (needs Debian's prometheus)
	$(PYTEST) -m needs_promtool tests/e2e/test_observability_files.py

check: $(VENV)/.dev ## format, lint, types, import directions, generated files
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd clients/python/src && $(abspath $(BIN))/lint-imports --config ../pyproject.toml
	$(BIN)/python -m app schema | diff - models/manifest.schema.json
	@rm -rf build/protos && mkdir -p build/protos/$(PROTOS)
	$(call protoc,build/protos/)
	for made in build/protos/$(PROTOS)/*; do cmp $$made $(PROTOS)/$${made##*/} || { echo "run 'make protos'" >&2; exit 1; }; done

check-deploy: $(VENV)/.deploy ## the chart, its manifests and the workflows, by helm, kubernetes-validate, zizmor
	$(PYTEST) -m needs_helm tests/deploy

manifests: $(VENV)/.dev ## write deploy/kubernetes anew, from the chart in deploy/helm
	$(BIN)/python -m deploy.render

format: $(VENV)/.dev ## format and mend what can be mended
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

protos: $(VENV)/.dev ## write what is generated from the .proto files anew
	$(call protoc,)

schema: $(VENV)/.service ## write models/manifest.schema.json anew
	$(BIN)/python -m app schema > models/manifest.schema.json.tmp
	mv models/manifest.schema.json.tmp models/manifest.schema.json

train: $(VENV)/.dev ## train, prove and export the next version of MODEL (cnn, numpy_mlp, ...)
	$(BIN)/python -m training train $(or $(MODEL),$(error say which: make train MODEL=cnn))

models: $(VENV)/.dev ## build every format of every bundle into build/models, or of MODEL (needs the data, see docs)
	$(BIN)/python -m training models $(MODEL)

bench: $(VENV)/.dev ## the service beside seven other servers and the floors, on this machine; writes docs/benchmarks.md
	$(BIN)/python -m benchmarks measure

bench-quick: $(VENV)/.dev ## see that `make bench` works: one short round, figures into build/bench/quick
	$(BIN)/python -m benchmarks measure --quick

drills: $(VENV)/.dev ## bad days on purpose, or one of them: DRILL=killed; writes docs/reliability.md (an hour; wants nginx)
	$(BIN)/python -m tests.drills $(DRILL)

image: ## build the service's image
	docker build --target service --tag zero-to-one:service .

test-image: $(VENV)/.service ## build all three images and hold running containers to their promises
	PYTHON=$(BIN)/python tests/container/run

clean: ## remove what make made
	rm -rf $(VENV) .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1); say PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.service: $(BIN)/python pyproject.toml requirements/constraints.txt
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.service
	$(PIP) --editable '.[train,torch,grpc,otel,offline,signing,dev]'
	@touch $@

$(VENV)/.deploy: $(VENV)/.dev
	$(PIP) --editable '.[deploy]'
	@touch $@
