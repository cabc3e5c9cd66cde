# `make test` and `make demo` do their own set-up: a virtual environment in .venv, filled from
# pyproject.toml with the versions of constraints.txt. All they ask for is Python 3.11 or newer; one
# test of `make test` also wants Node, which root on Debian gets and which is skipped elsewhere.

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

# Runs one stage of a target and says how long it took.
stage = @printf '== %s\n' '$(1)'; start=$$(date +%s); $(2) || { printf '== %s failed\n' '$(1)' >&2; exit 1; }; \
	printf '   %ds\n' $$(($$(date +%s) - start))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

.PHONY: help
help: ## Lists the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{ printf "  make %-8s %s\n", $$1, $$2 }'

.PHONY: test
test: check node ## Checks formatting, types, layers and the contract, then runs the tests
	$(BIN)/pytest --numprocesses auto --dist loadfile

.PHONY: check
check: $(VENV)/installed-dev ## Everything that `make test` does before the tests
	$(call stage,format,$(BIN)/ruff format --check --quiet .)
	$(call stage,lint,$(BIN)/ruff check --quiet .)
	$(call stage,types,$(BIN)/mypy)
	$(call stage,layers,$(BIN)/lint-imports --no-cache --no-logo)
	$(call stage,contract,$(BIN)/buf lint)
	$(call stage,generated code,$(PY) tools/generate_protos.py --check)

.PHONY: node
node:
	$(call stage,node,sh tools/install_node.sh)

.PHONY: demo
demo: $(VENV)/installed-demo ## Walks the tutorial on an embedded server and draws its graph
	$(BIN)/gradwire demo

.PHONY: load
load: $(VENV)/installed-load ## Load-tests a local server with Locust for 30 seconds
	$(PY) tests/load/run.py

.PHONY: bench
bench: $(VENV)/installed-bench ## Measures beside the peers: QUICK=1, ONLY='chain value_*', RESUME=1
	$(call stage,peers,$(PY) -m benchmarks.environments)
	$(PY) -m benchmarks $(if $(QUICK),--quick) $(if $(RESUME),--resume) $(if $(ONLY),--only '$(ONLY)')

.PHONY: protos
protos: $(VENV)/installed-dev ## Generates client/gradwire/v1 from proto/
	$(PY) tools/generate_protos.py

.PHONY: format
format: $(VENV)/installed-dev ## Formats the code and fixes what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: clean
clean: ## Removes the virtual environment and every cache
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/installed-demo: EXTRAS := server,examples
$(VENV)/installed-load: EXTRAS := server,examples,load
$(VENV)/installed-bench: EXTRAS := server,bench
$(VENV)/installed-dev: EXTRAS := dev

$(VENV)/installed-%: $(VENV)/created pyproject.toml constraints.txt
	$(call stage,install gradwire[$(EXTRAS)],$(PY) -m pip install -qq --constraint constraints.txt --editable '.[$(EXTRAS)]')
	@touch $@
	$(if $(findstring dev,$@),@touch $(addprefix $(VENV)/installed-,demo load bench))

$(VENV)/created: tools/create_venv.sh
	$(if $(PYTHON),,$(error Python 3.11 or newer is needed and none was found: install it or name it, as in `make test PYTHON=/opt/python/bin/python3`))
	$(call stage,virtual environment,sh tools/create_venv.sh $(PYTHON) $(VENV))
	@touch $@
