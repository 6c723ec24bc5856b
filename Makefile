# Every target does its own set-up. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test lint types layers unit compiled compiled-unit integration busy faults browser protos docs screenshots bench clean

help:
	@echo "make demo         the whole stack on this machine (DEMO_ARGS='--once --json', '--config PATH', …)"
	@echo "make test         lint, types, layers, and all tests"
	@echo "make unit         the tests that need no Envoy"
	@echo "make compiled     the same source with its request path compiled, in build/compiled, for PYTHONPATH; needs a C compiler"
	@echo "make integration  the tests that run the real Envoy"
	@echo "make busy         the integration tests three times in a row beside eight busy loops"
	@echo "make faults       seed known faults, one at a time in a copy, and show that a test sees each"
	@echo "make browser      the tests of the admin page in a real Chromium, which must be there (CHROMIUM=/path/to/it)"
	@echo "make docs         generate the pages that come from code: docs/configuration.md, docs/schema, docs/session.md"
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
	$(BIN)/python -m pytest -n 2 tests/unit tests/property tests/conformance --cov --cov-report=
	$(BIN)/python -m coverage report --include='$(PURE)' --fail-under=100 --skip-covered --show-missing
	@$(MAKE) --no-print-directory compiled-unit
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/distribution tests/integration

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

unit: $(STAMP)
	$(BIN)/python -m pytest -n 2 tests/unit tests/property tests/conformance

# The same source, its request path compiled by mypyc. Built of a source archive, since compilers leave their files where
# the source is, and there they would be imported in its place.
COMPILED := build/compiled
SOURCES := pyproject.toml $(shell find extproc scheduler modelsim envoy -type f ! -name '*.pyc')
# What stands in the way of compiling; empty: nothing.
NO_COMPILER = $(BIN)/python -c 'import os, shutil, sysconfig as s; \
	cc = (os.environ.get("CC") or s.get_config_var("CC") or "cc").split()[0]; \
	head = os.path.join(s.get_path("include"), "Python.h"); \
	print("" if shutil.which(cc) and os.path.exists(head) else f"it needs a C compiler ({cc}) and Python.h ({head})")'

compiled: $(COMPILED)/.built

$(COMPILED)/.built: $(STAMP) $(SOURCES)
	@why=$$($(NO_COMPILER)); if [ -n "$$why" ]; then echo "make compiled: $$why" >&2; exit 1; fi
	@rm -rf build/sdist $(COMPILED) $(COMPILED).new
	$(BIN)/python -m hatchling build --target sdist --directory build/sdist
	HATCH_BUILD_HOOK_ENABLE_MYPYC=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--no-build-isolation --target $(COMPILED).new build/sdist/*.tar.gz
	@mv $(COMPILED).new $(COMPILED)
	@touch $@

# The tests of the source once more, of what is compiled of it. PYTHONSAFEPATH: else the checkout would be imported.
compiled-unit: $(STAMP)
	@why=$$($(NO_COMPILER)); if [ -n "$$why" ]; then echo "the compiled build is not tested: $$why"; else \
		$(MAKE) --no-print-directory compiled && export PYTHONSAFEPATH=1 PYTHONPATH=$(COMPILED) && \
		$(BIN)/python -c 'from extproc.process.build_info import compiled; assert compiled()' && \
		$(BIN)/python -m pytest -n 2 tests/unit tests/property tests/conformance; fi

integration: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/integration

busy: $(STAMP)
	$(BIN)/python tests/beside_busy_loops.py $(BUSY_ARGS)

# Not part of `make test`, which sees each of them: some seconds for each fault.
faults: $(STAMP)
	$(BIN)/python tests/seed_faults.py

# Not part of `make test`: a browser is not to be had by pip.
browser: $(STAMP)
	$(BIN)/python -m pytest tests/browser

docs: $(STAMP)
	$(BIN)/infer-gateway schema > docs/schema/infer-gateway.schema.json
	$(BIN)/infer-gateway schema --markdown > docs/configuration.md
	$(BIN)/python docs/make_session.py > docs/session.md
	$(BIN)/python docs/make_rooms.py
	$(BIN)/python docs/make_chart.py

screenshots: $(STAMP)
	$(BIN)/python docs/make_screenshots.py

# Its peers and load clients get environments of their own, bench/.venv-*: 1.5 GB at the first run. What is measured is
# the compiled build, which it makes by `make compiled`, and for comparison the source.
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
PURE_FILES := extproc/errors.py extproc/fetch/*.py extproc/protocol/*.py extproc/wire/*.py extproc/parsers/*.py extproc/auth/*.py extproc/config/*.py \
	extproc/request/mutation.py extproc/request/rewrite_body.py extproc/request/rewrite_answer.py \
	extproc/routing/*.py extproc/outcome/*.py extproc/outcome/usage/*.py \
	extproc/telemetry/instruments.py extproc/telemetry/decision_log.py extproc/telemetry/access_log.py \
	extproc/telemetry/tracing.py extproc/telemetry/finished.py extproc/telemetry/trace_context.py \
	extproc/process/build_info.py extproc/process/files.py extproc/tenancy/*.py \
	extproc/admin/columns.py extproc/admin/address.py extproc/admin/summary.py extproc/admin/top/frame.py extproc/admin/top/show.py \
	extproc/transport/http2/frames.py extproc/transport/http2/connection.py extproc/transport/http2/requests.py \
	extproc/transport/http2/stream.py extproc/transport/grpc_status.py extproc/transport/budget.py extproc/transport/health.py \
	extproc/workers/place.py extproc/workers/merge.py extproc/sharing/replica.py extproc/sharing/topic.py \
	extproc/sharing/message.py extproc/sharing/journal.py extproc/sharing/group.py extproc/sharing/secret.py \
	extproc/sharing/redis/clock.py extproc/workers/sums.py \
	extproc/discovery/*.py extproc/discovery/dns/*.py extproc/discovery/kubernetes/*.py extproc/fleet/scrape.py \
	scheduler/*.py scheduler/plugins/*.py scheduler/pool/*.py scheduler/prefix/*.py
PURE := $(subst $(space),$(comma),$(strip $(PURE_FILES)))
