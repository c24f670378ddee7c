# Every target sets up what it needs, from a fresh clone, with Python 3.11 or newer and make.
#   make test ARGS="-k lake"     options for the tool behind a target
#   make setup UV=               with pip, even if uv is installed
#   make setup PYTHON=python3.13 with that Python
.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
# Without bytecode each process of the tests would compile Keywatch again.
unexport PYTHONDONTWRITEBYTECODE

# Empty means pip. The redirection makes GNU make 4.3 use a shell, which `command` needs.
UV ?= $(shell command -v uv 2>/dev/null)
PYTHON ?=
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
LOCKED := $(VENV)/.locked
INSTALLED := $(VENV)/.installed

PYTHONS := python3.11 python3 python3.12 python3.13 python3.14 python

.PHONY: help setup demo docs notebooks ipynb test test-long test-cluster quick torture mutants image-check release install-check check lint formatting types imports sql fix bench lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile | expand -t 14

setup: $(INSTALLED) ## .venv with the locked packages and this checkout
	@echo "setup: ready, $(BIN)/keywatch"

demo: $(INSTALLED) ## generate a sample log with stolen keys, load it and review it
	@$(BIN)/keywatch demo $(ARGS)

# The lake that KEYWATCH_LAKE names, else a demo lake, made once.
NOTEBOOK_LAKE := $(or $(KEYWATCH_LAKE),build/demo/lake)
NOTEBOOKS := $(wildcard notebooks/*.py)

build/demo/lake: | $(INSTALLED)
	@rm -rf build/demo
	@mkdir -p build
	@$(BIN)/keywatch demo --keep build/demo >build/demo.txt && $(BIN)/python tools/demo_verdicts.py build/demo \
		|| { rm -rf build/demo; exit 2; }
	@echo "notebooks: a demo lake in $@"

notebooks: $(INSTALLED) $(if $(KEYWATCH_LAKE),,build/demo/lake) ## open the notebooks in the browser
	@KEYWATCH_LAKE="$(abspath $(NOTEBOOK_LAKE))" DO_NOT_TRACK=1 MARIMO_SKIP_UPDATE_CHECK=1 \
		$(BIN)/marimo edit notebooks --host 127.0.0.1 $(ARGS)

ipynb: $(INSTALLED) ## build/notebooks/*.ipynb, for Jupyter and VS Code
	@mkdir -p build/notebooks
	@set -eu; for file in $(NOTEBOOKS); do \
		DO_NOT_TRACK=1 $(BIN)/marimo export ipynb "$$file" --sort top-down -f \
			-o "build/notebooks/$$(basename "$$file" .py).ipynb"; \
	done
	@echo "ipynb: build/notebooks"

# A plan of DuckDB is thousands of small allocations: glibc keeps freed ones at hand, and gives
# nothing back. A tenth of the processor time of a small lake's review; other systems ignore it.
TUNABLES := glibc.malloc.tcache_count=4000:glibc.malloc.tcache_max=131072
TUNABLES := $(TUNABLES):glibc.malloc.trim_threshold=268435456:glibc.malloc.mmap_threshold=33554432
test test-long test-cluster: export GLIBC_TUNABLES := $(TUNABLES):glibc.malloc.top_pad=67108864

# A file's tests share their lakes and servers, so they stay in one process; in the order of their
# names short files come last. How many processes there are, tests/conftest.py says.
test: $(INSTALLED) ## all tests, slow ones too
	@echo "test: pytest"
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

# Some tests are proofs by length or by number; their short forms are in `make test` (tests/long.py).
test-long: $(INSTALLED) ## all tests, each in its long form
	@echo "test-long: pytest"
	@KEYWATCH_TEST_LONG=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

# Without any network. All pages are read again: what is generated depends on the code.
docs: $(INSTALLED) ## the documentation site in build/docs
	@$(BIN)/python -m sphinx -W --keep-going -q -E -d build/doctrees -b html -c docs . build/docs
	@echo "docs: build/docs/index.html"

# Its short form is in `make test`.
CLUSTER_TESTS := tests/lake/test_shared_lake.py tests/lake/test_two_machines.py tests/lake/test_object_store.py \
	tests/lake/test_key_hash.py tests/lake/test_encryption.py tests/operate/test_lake_status.py tests/operate/test_move.py \
	tests/deliver/test_claims.py tests/review/test_engine.py tests/load/test_engine_loads.py

test-cluster: $(INSTALLED) ## the shared lake on a real PostgreSQL and an S3, and reviews and loads on Dask, at length
	@echo "test-cluster: pytest"
	@KEYWATCH_TEST_LOADS=20 KEYWATCH_TEST_SECONDS=300 $(BIN)/python -m pytest -n auto --dist loadfile $(CLUSTER_TESTS) $(ARGS)

quick: check ## the tests of what changed, without the slow ones
	@$(BIN)/python tools/quick.py $(ARGS)

torture: $(INSTALLED) ## kills, damage, fuzzed logs, many processes (40 minutes); writes docs/reliability.md
	@$(BIN)/python -m tests.torture $(ARGS)

mutants: $(INSTALLED) ## mutation testing by sample: mistakes that no test detects (hours)
	@$(BIN)/python tools/mutants.py $(ARGS)

# What an image would install, in a folder of its own, with the commands that its containers run.
image-check: ## deploy/install.sh in a clean folder, and what it installs (two minutes)
	@set -eu; $(FIND_PYTHON); \
	folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	PYTHON="$$python" deploy/install.sh "$$folder/keywatch"; \
	checkout=$$PWD; cd "$$folder"; export HOME="$$folder" PATH="$$folder/keywatch/bin:$$PATH"; \
	keywatch --version; \
	keywatch demo --keys 20 --weeks 3 >demo.txt; \
	keywatch lake init; keywatch lake status >status.txt; keywatch doctor >doctor.txt; \
	cp -r "$$checkout/flows" "$$checkout/prefect.yaml" .; \
	python -c 'import flows.weekly_review, keywatch.explore.desk'; \
	echo "image-check: installed, and it runs"

release: $(INSTALLED) ## dist/: sdist, wheel, list of packages, notes and sums of the tagged commit (ARGS=--snapshot tries it)
	@$(BIN)/python tools/release.py $(ARGS)

# As a user installs a release, without this checkout. With pyenv, PYENV_VERSION=3.11.7:3.13.0 names two.
install-check: $(INSTALLED) ## a release in a clean environment of each Python here, and its demo (two minutes each)
	@set -eu; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(BIN)/python tools/release.py --snapshot --output "$$folder/dist"; \
	cd "$$folder"; seen=; \
	for python in $(or $(PYTHON),$(PYTHONS)); do \
		version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 11))' 2>/dev/null) || continue; \
		case "$$seen " in *" $$version "*) continue ;; esac; \
		seen="$$seen $$version"; \
		"$$python" -m venv venv; \
		pip="venv/bin/python -m pip --no-input --disable-pip-version-check install -qq --no-deps"; \
		$$pip --require-hashes --only-binary :all: -r dist/*-requirements.txt; \
		$$pip --no-index dist/*.whl; \
		HOME="$$folder" venv/bin/keywatch --version; \
		HOME="$$folder" venv/bin/keywatch demo --keys 20 --weeks 3 >demo.txt; \
		rm -rf venv; \
		echo "install-check: Python $$version, installed, and it runs"; \
	done; \
	if [ -z "$$seen" ]; then echo "install-check: no Python 3.11 or newer found" >&2; exit 2; fi

check: lint formatting types imports sql ## style, types and import rules

lint: $(INSTALLED)
	@echo "check: ruff check"
	@$(BIN)/ruff check .

formatting: $(INSTALLED)
	@echo "check: ruff format"
	@$(BIN)/ruff format --check .

types: $(INSTALLED)
	@echo "check: mypy"
	@$(BIN)/mypy

imports: $(INSTALLED)
	@echo "check: import-linter"
	@$(BIN)/lint-imports --no-logo

sql: $(INSTALLED)
	@echo "check: SQL's style"
	@$(BIN)/python tools/sql_style.py

fix: $(INSTALLED) ## fix what ruff can fix
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(INSTALLED) ## run every benchmark
	@set -eu; for file in $$(grep -rl --include='*.py' '^if __name__ == "__main__":' benchmarks | LC_ALL=C sort); do \
		file=$${file%.py}; \
		name=$$(echo "$${file%/__main__}" | tr / .); \
		echo "bench: $${name#benchmarks.}"; \
		$(BIN)/python -m "$$name" $(ARGS); \
	done

lock: ## rewrite requirements.lock and the image's locks from pyproject.toml (ARGS=--upgrade for newer versions)
	@set -eu; $(FIND_PYTHON); "$$python" tools/lock.py $(ARGS)

clean: ## remove what make created; never a lake
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find src tests benchmarks tools -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# Sets the shell's $$python to the first Python that is new enough, or states the fix.
define FIND_PYTHON
python=; \
for candidate in $(or $(PYTHON),$(PYTHONS)); do \
	if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	then python=$$candidate; break; fi; \
done; \
if [ -z "$$python" ]; then \
	echo "make: no Python 3.11 or newer found (tried: $(or $(PYTHON),$(PYTHONS)))." >&2; \
	echo "make: install one, or name it: make setup PYTHON=/path/to/python3.11" >&2; \
	exit 2; \
fi
endef

# A new lock makes a new environment, so nothing stays in it that the lock does not name. Wheels
# only: building from source would run a package's own code, with tools that no hash covers. Without
# dependencies: the lock names all of them, and pip wants a hash for each extra by its own name.
$(LOCKED): requirements.lock
	@set -eu; $(FIND_PYTHON); \
	rm -rf $(VENV); \
	if [ -n "$(UV)" ]; then \
		echo "setup: the locked packages into $(VENV), $$("$$python" -V), with uv"; \
		"$(UV)" venv -q --python "$$("$$python" -c 'import sys; print(sys.executable)')" $(VENV); \
		"$(UV)" pip sync -q --python $(BIN)/python --require-hashes --only-binary :all: requirements.lock; \
	else \
		echo "setup: the locked packages into $(VENV), $$("$$python" -V), with pip (about a minute)"; \
		"$$python" -m venv $(VENV) || { \
			echo "setup: this Python cannot make an environment with pip in it." >&2; \
			echo "setup: install its venv package (Debian: python3-venv), or uv." >&2; \
			exit 2; \
		}; \
		$(BIN)/python -m pip install -qq --no-input --disable-pip-version-check \
			--no-deps --require-hashes --only-binary :all: -r requirements.lock; \
	fi; \
	touch $@

# The version is git's: after a `git pull`, `make setup` installs the checkout again.
ifneq ($(filter setup,$(MAKECMDGOALS)),)
$(INSTALLED): $(wildcard $(shell git rev-parse --git-path logs/HEAD 2>/dev/null))
endif

$(INSTALLED): $(LOCKED) pyproject.toml
	@set -eu; \
	if [ -n "$(UV)" ]; then \
		"$(UV)" pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	else \
		$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; \
		$(BIN)/python -m pip install -qq --no-input --disable-pip-version-check \
			--no-deps --no-build-isolation -e .; \
	fi; \
	touch $@
