# hdrs-hpc: the commands a person needs.  `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv >/dev/null 2>&1 && uv --version >/dev/null 2>&1 && echo uv || echo .uv/bin/uv)
DIR ?= demo-site
CLUSTER ?= local
OUT ?= results.json
SIZE ?= full
WORKERS ?= 3
TESTS := tests/unit tests/contract tests/integration tests/site tests/faults
ONLY ?=
SLIDE ?=

.PHONY: help env demo test faults bench test-torch check fix docs lock slurm-up slurm-down clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

env: $(VENV)/.ready  ## make the environment (.venv) from the lock

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.ready: requirements.lock pyproject.toml $(if $(filter uv,$(UV)),,.uv/bin/uv)
	$(UV) venv --quiet --allow-existing --python "$$(cat .python-version)" $(VENV) \
	  || $(UV) venv --quiet --allow-existing --python 3.12 $(VENV)
	$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: env  ## the whole life of one project in two minutes (DIR=demo-site CLUSTER=local|slurm)
	@$(BIN)/python -m compileall -q hdrs_hpc connectors imaging  # its people's commands write no bytecode
	@$(BIN)/hdrs-hpc demo --dir "$(DIR)" --cluster "$(CLUSTER)"

test: env  ## all tests; parts that need Slurm, sshd, a PACS or bubblewrap are named loudly where missing
	HDRS_TEST_PATIENCE=$${HDRS_TEST_PATIENCE:-2} $(BIN)/pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder -m "not alone" $(TESTS)
	$(BIN)/pytest -n0 -m alone $(TESTS)

.torch/.ready: deploy/runtimes/torch-x86_64-cuda.lock $(VENV)/.ready
	$(UV) pip install --quiet --compile-bytecode --target .torch --python $(BIN)/python --require-hashes -r $<
	@touch $@

faults: env  ## kill and starve it, often: 1,000 starts at four times the load, 300 kills of each kind (an hour)
	HDRS_FAULT_STARTS=1000 HDRS_FAULT_TRIALS=300 $(BIN)/pytest -n0 -s tests/faults
	HDRS_AGREEMENT_PROJECTS=3000 $(BIN)/pytest -n0 tests/unit/broker/keyd/test_keyd_agrees_with_policy.py

bench: env  ## measure against peers (OUT=results.json SIZE=small|full ONLY="case case" SLIDE=some.svs)
	$(BIN)/hdrs-hpc bench --out "$(OUT)" --size "$(SIZE)" $(foreach case,$(ONLY),--only $(case)) \
	  $(if $(SLIDE),--slide "$(SLIDE)")

test-torch: .torch/.ready  ## tests that need PyTorch, which lies in a folder of its own (5 GB)
	PYTHONPATH=.torch $(BIN)/pytest -n0 tests/integration/test_torch_ranks.py \
	  tests/integration/node/test_training.py tests/integration/imaging/test_command_run.py \
	  tests/integration/imaging/test_reading_torch.py tests/integration/imaging/test_reading_docs.py \
	  tests/integration/node/test_weights_and_their_library.py tests/integration/imaging/test_training_example.py \
	  tests/integration/imaging/test_training_workloads.py

check: env  ## ruff, mypy, import-linter, docs and schemas up to date; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/tools/docs_up_to_date.py

fix: env  ## mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: env  ## generate the generated pages and schemas
	$(BIN)/python tests/tools/docs_up_to_date.py --write

lock: $(if $(filter uv,$(UV)),,.uv/bin/uv)  ## resolve the dependencies again
	$(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-annotate --no-header --all-extras --group dev pyproject.toml --output-file requirements.lock
	$(UV) pip compile --quiet --python-version 3.13 --python-platform x86_64-unknown-linux-gnu --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-annotate --no-header --constraint requirements.lock \
	  deploy/runtimes/torch.in --output-file deploy/runtimes/torch-x86_64-cuda.lock
	$(UV) pip compile --quiet --python-version 3.13 --python-platform aarch64-unknown-linux-gnu --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-annotate --no-header --constraint requirements.lock \
	  deploy/runtimes/torch.in --output-file deploy/runtimes/torch-aarch64-cuda.lock

slurm-up:  ## a throw-away real Slurm on this machine (root; Debian packages)
	deploy/slurm/up

slurm-down:  ## stop it and remove what it made
	deploy/slurm/down

clean:  ## remove the environment and caches
	rm -rf $(VENV) .uv .torch .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
