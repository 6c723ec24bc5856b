# Every target does its own set-up. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test lint types layers unit integration browser protos docs screenshots bench clean

help:
	@echo "make demo         the whole stack on this machine (DEMO_ARGS='--once --json', '--config PATH', …)"
	@echo "make test         lint, types, layers, and all tests"
	@echo "make unit         the tests that need no Envoy"
	@echo "make integration  the tests that run the real Envoy"
	@echo "make browser      the tests of the admin page in a real Chromium, which must be there (CHROMIUM=/path/to/it)"
	@echo "make docs         generate docs/configuration.md and docs/schema again from the configuration's model"
	@echo "make screenshots  make docs/screenshots again: needs Chromium too"
	@echo "make protos       generate extproc/_pb again from proto/"
	@echo "make bench        this gateway beside its peers, 12 minutes on a quiet machine (BENCH_ARGS='--quick', …); needs wrk"
	@echo "make clean        remove the virtual environment and caches"

# One environment for everything. `requirements/dev.txt` pins what is installed, to the version.
$(STAMP): pyproject.toml requirements/dev.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP)
	$(BIN)/infer-gateway demo $(DEMO_ARGS)

test: lint types layers
	$(BIN)/python -m pytest tests/unit tests/property tests/conformance tests/distribution --cov --cov-report=
	$(BIN)/python -m coverage report --include='$(PURE)' --fail-under=100 --skip-covered --show-missing
	$(BIN)/python -m pytest tests/integration

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

unit: $(STAMP)
	$(BIN)/python -m pytest tests/unit tests/property tests/conformance

integration: $(STAMP)
	$(BIN)/python -m pytest tests/integration

# Not part of `make test`: a browser is not to be had by pip.
browser: $(STAMP)
	$(BIN)/python -m pytest tests/browser

docs: $(STAMP)
	$(BIN)/infer-gateway schema > docs/schema/infer-gateway.schema.json
	$(BIN)/infer-gateway schema --markdown > docs/configuration.md

screenshots: $(STAMP)
	$(BIN)/python docs/make_screenshots.py

# Its peers and load clients get environments of their own, bench/.venv-*: 1.5 GB at the first run.
bench: $(STAMP)
	$(BIN)/python bench/peers.py $(BENCH_ARGS)

protos: $(STAMP)
	$(BIN)/python proto/generate.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .import_linter_cache dist build

# The pure core: its branches are covered to the last one.
comma := ,
empty :=
space := $(empty) $(empty)
PURE_FILES := extproc/session.py extproc/events.py extproc/replies.py extproc/mutation.py extproc/headers.py \
	extproc/outcomes.py extproc/answers.py extproc/ended.py extproc/ledger.py extproc/instruments.py extproc/wire/*.py \
	extproc/lean.py extproc/routes.py extproc/rewrite.py extproc/answer_names.py \
	extproc/decisions.py extproc/access_log.py extproc/tracing.py extproc/summary.py extproc/top/frame.py \
	extproc/top/show.py extproc/parsers/*.py extproc/usage/*.py \
	extproc/auth/*.py extproc/config/*.py extproc/transport/frames.py extproc/transport/grpc_status.py \
	extproc/workers/place.py extproc/workers/merge.py extproc/workers/replica.py extproc/workers/sums.py \
	extproc/transport/http2.py extproc/transport/requests.py extproc/transport/stream.py extproc/transport/budget.py extproc/transport/health.py \
	scheduler/*.py scheduler/plugins/*.py scheduler/pool/*.py scheduler/pool/discovery/*.py \
	scheduler/pool/discovery/kubernetes/*.py
PURE := $(subst $(space),$(comma),$(strip $(PURE_FILES)))
