# make bench   install into .venv, then memorise random labels       make test      install, then the fast tests
# make check   style, types and import order                         make test-all  all tests, with the slow ones
# make perf    compare counts, time every case with its baseline     make env       print what this machine can do
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
# Tests share nothing but the processors; those that compare times run alone, in `make perf`.
TESTS = $(RUN) -m pytest --numprocesses auto --dist worksteal
SOURCES = pyproject.toml setup.py constraints.txt $(wildcard csrc/*.* csrc/*/*.*)
INSTALL = $(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: install bench test test-all coverage check env perf baselines gpu-check clean

install: $(VENV)/.installed

# torch comes first, and the package without build isolation: setup.py builds the C++ against that torch.
$(VENV)/.installed: $(SOURCES)
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 10) else f"Python >= 3.10 is needed, {sys.executable} is {v.major}.{v.minor}: make PYTHON=/path/to/python3.10")'
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (the first time fetches about 1 GB)"
	@$(INSTALL) torch numpy "setuptools>=77" wheel
	@$(INSTALL) --no-build-isolation --editable ".[dev,cuda13]"
	@touch $@

bench: install
	$(RUN) -m rethink_fast.bench imagenet --corruption random $(ARGS)

test: install
	$(TESTS) -m "not slow and not timing" $(ARGS)

test-all: install
	$(TESTS) -m "not timing" $(ARGS)

coverage: install
	$(TESTS) -m "not slow and not timing" --cov=rethink_fast --cov-report=term:skip-covered $(ARGS)

check: install
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m pytest tests/test_imports.py

env: install
	@$(VENV)/bin/rethink-fast env

# glibc keeps freed memory, or mapping it anew would cost more than what is timed.
perf: export MALLOC_MMAP_THRESHOLD_ = 4000000000
perf: export MALLOC_TRIM_THRESHOLD_ = 8000000000
perf: export MALLOC_TOP_PAD_ = 400000000
perf: install
	$(RUN) -m benchmarks.counts
	$(RUN) -m pytest -m timing
	$(RUN) -m pytest benchmarks --benchmark-timer=time.process_time --benchmark-columns=median,iqr,rounds $(ARGS)

baselines: install
	$(RUN) -m benchmarks.baselines $(ARGS)

# With the machine's own Python and torch: nothing is installed.
gpu-check:
	@$(PYTHON) -m benchmarks.gpu_check $(ARGS)

# Not part of .ci/run: it downloads some GB into build/.
.PHONY: gpu-dry-run
gpu-dry-run: install
	$(RUN) -m benchmarks.dry_run $(ARGS)

clean:
	rm -rf $(VENV) build *.egg-info rethink_fast/*.so
