# Everything a person does with Slipway on one machine. `make help` lists it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.installed
AUDIT := $(VENV)/audit
RUN_ARGS ?=
COMPILE = $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup run serve test test-soak test-integration test-kfp lint format audit bench lock images secrets platform kind-up clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: $(SETUP) ## make the virtual environment from the hash-locked requirements

$(SETUP): requirements/uv.txt requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(f"Slipway needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}. Set PYTHON=/path/to/python3.11") if sys.version_info < (3, 11) else None'
	@echo "Setting up $(VENV) (the first time downloads about 3 GB: PyTorch brings its GPU libraries along)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/uv.txt
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes requirements/uv.txt requirements/dev.txt
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --offline --editable .
	@touch $@

run: $(SETUP) ## train, gate, register and deploy a model on scikit-learn's digits (RUN_ARGS="section.key=value ...")
	@$(BIN)/slipway run $(RUN_ARGS)

serve: $(SETUP) ## serve the champion over HTTP
	@$(BIN)/slipway serve

test: $(SETUP) ## unit, serving, local and contract tests
	@$(BIN)/python -m tests.servers.programs
	@$(BIN)/pytest tests/unit tests/serving tests/local tests/contract

test-soak: $(SETUP) ## the predictor for long: fuzzing, mixed load, reloads, with its memory watched (SOAK_MINUTES=5 a test)
	@$(BIN)/pytest tests/soak --minutes "$(or $(SOAK_MINUTES),5)" $(PYTEST_ARGS)

test-integration: $(SETUP) ## tests on the cluster of KUBECONFIG, with images built from this checkout (docs/testing.md)
	@test -n "$$KUBECONFIG" || { echo "KUBECONFIG is not set: these tests need a cluster (docs/testing.md)" >&2; exit 2; }
	@$(BIN)/python -m tests.integration.images >/dev/null
	@$(BIN)/pytest tests/integration $(PYTEST_ARGS)

test-kfp: $(SETUP) ## run the pipeline on a Kubeflow Pipelines that is there and check what comes of it (KFP_ENDPOINT=http://...)
	@$(BIN)/pytest tests/kfp --endpoint "$(KFP_ENDPOINT)" $(if $(REGISTRY),--registry $(REGISTRY)) $(if $(TAG),--image-tag $(TAG)) $(PYTEST_ARGS)

lint: $(SETUP) ## ruff (format and lint), mypy --strict, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(SETUP) ## apply ruff's formatting and safe fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

audit: $(SETUP) ## compare all locked packages with the vulnerabilities that PyPI knows (needs its API)
	@test -x $(AUDIT)/bin/pip-audit || $(PYTHON) -m venv $(AUDIT)
	@VIRTUAL_ENV=$(CURDIR)/$(AUDIT) $(BIN)/uv pip sync --quiet --require-hashes requirements/audit.txt
	@status=0; for lock in requirements/*.txt; do echo "$$lock"; \
		$(AUDIT)/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off --requirement "$$lock" || status=1; \
	done; exit $$status

bench: $(SETUP) ## measure against the pinned baselines (docs/benchmarks.md says how to read it)
	@$(BIN)/python -m benchmarks

lock: ## resolve the requirement files anew (hashes, no index addresses); the images' versions are those that tests run with
	$(COMPILE) requirements/uv.in --output-file requirements/uv.txt
	$(COMPILE) --extra dev pyproject.toml --output-file requirements/dev.txt
	$(COMPILE) --constraint requirements/dev.txt requirements/audit.in --output-file requirements/audit.txt
	$(COMPILE) --constraint requirements/dev.txt requirements/kfp.in --no-deps --output-file requirements/kfp.txt
	$(COMPILE) --constraint requirements/dev.txt requirements/torch.in --output-file requirements/torch.txt
	$(COMPILE) --constraint requirements/dev.txt requirements/mlflow.in --output-file requirements/mlflow.txt
	$(COMPILE) --constraint requirements/dev.txt --extra data --extra evaluate --extra deploy --extra tracking-client --extra storage pyproject.toml --output-file requirements/pipeline.txt
	$(COMPILE) --constraint requirements/dev.txt --extra train --extra export --extra tracking-client --extra storage --extra cluster pyproject.toml --output-file requirements/trainer.txt
	$(COMPILE) --constraint requirements/dev.txt --extra serve --extra serve-grpc --extra serve-tracing pyproject.toml --output-file requirements/predictor.txt
	@for name in fastapi mlserver kserve bentoml litserve; do echo "baseline $$name"; $(COMPILE) --constraint requirements/torch.txt benchmarks/baselines/serving/$$name.in --output-file benchmarks/baselines/serving/$$name.txt || exit 1; done

images: ## build the container images, tagged with the git commit (IMAGES="predictor", CONTAINER_TOOL=, REGISTRY=, TAG=)
	@$(PYTHON) images/build.py $(if $(CONTAINER_TOOL),--tool $(CONTAINER_TOOL)) $(if $(REGISTRY),--registry $(REGISTRY)) $(if $(TAG),--tag $(TAG)) $(IMAGES)

secrets: ## make the Secrets of the platform where they are missing, in the cluster of KUBECONFIG (docs/cluster.md)
	@manifests/secrets

platform: ## install or update the platform layer (OVERLAY=kind, IMAGE_REFS="$$(make -s images)" for images of your own)
	@manifests/apply $(or $(OVERLAY),kind) $(IMAGE_REFS)

kind-up: ## a cluster on this machine with KServe, Kubeflow Pipelines and the platform on it (needs docker and kind)
	@PYTHON=$(PYTHON) manifests/kind-up

clean: ## remove the virtual environment, caches and everything Slipway has made here
	@rm -rf $(VENV) .slipway .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist pipelines/compiled
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
