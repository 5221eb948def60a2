# One-word targets; `make` alone lists them. PYTHON is the interpreter of the single steps:
# .venv's where there is one. VARIABLES=value on the command line reach the steps.

PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
FUZZ_SECONDS ?= 60

VENV := .venv/bin
PIP := $(VENV)/python -m pip --disable-pip-version-check --no-input install --progress-bar off
CTEST := $(MAKE) --no-print-directory -f tests/c/tests.mk

export PYTHONUNBUFFERED = 1

.PHONY: help build test demo pictures ctest pytest lint format asan fuzz bench bench-kernels clean bootstrap steps
help:
	@echo "make demo     install what is missing, build, train on drawn faces, write demo-report/"
	@echo "make test     install what is missing, build, run all tests and checks"
	@echo "make build    install what is missing, build into .venv"
	@echo
	@echo "make ctest    C tests (ONLY=image for tests/c/test_image.c)"
	@echo "make pytest   Python tests (ARGS='-k loader' and so on)"
	@echo "make lint     formatting, ruff, mypy, layers, headers, names"
	@echo "make format   format C and Python"
	@echo "make asan     C tests under AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make fuzz     fuzzers, FUZZ_SECONDS=$(FUZZ_SECONDS) each (needs clang)"
	@echo "make bench    compare with PyTorch, ONNX Runtime and OpenVINO (needs the extra bench)"
	@echo "make bench-kernels  speed of kernels and layers: build/ctest/plain/bench_kernels, bench_layers"
	@echo "make pictures make the pictures of the README again"
	@echo "make clean    remove what was built"

# --- a bare checkout

bootstrap:
	@sh tools/bootstrap.sh

# The environment is made anew only when the metadata changed. The module is built every
# time, which costs a second when nothing changed.
.venv/.facsnet: pyproject.toml tools/bootstrap.sh | bootstrap
	$(VENV)/python tools/requirements.py build > .venv/build-requirements.txt
	$(PIP) -q -r .venv/build-requirements.txt
	FACS_WERROR=1 $(PIP) -q --no-build-isolation -e .
	@touch $@

.venv/.facsnet-test: .venv/.facsnet
	$(VENV)/python tools/requirements.py test > .venv/test-requirements.txt
	$(PIP) -q -r .venv/test-requirements.txt
	@touch $@

build: bootstrap .venv/.facsnet
	@FACS_WERROR=1 $(VENV)/python setup.py -q build_ext --inplace

demo: build
	$(VENV)/facsnet demo

pictures: demo
	cp demo-report/pr.png docs/images/pr.png
	$(VENV)/python tools/draw_faces.py

test: build .venv/.facsnet-test
	@$(MAKE) --no-print-directory steps PYTHON=$(VENV)/python

# All are run, whatever fails, and the runners' closing lines stand at the end.
steps:
	@status=0; \
	$(MAKE) --no-print-directory lint || status=1; \
	$(MAKE) --no-print-directory ctest || status=1; \
	$(MAKE) --no-print-directory pytest || status=1; \
	exit $$status

# --- single steps

ctest:
	@$(CTEST) -j$(JOBS) programs PYTHON=$(PYTHON)
	@$(CTEST) run PYTHON=$(PYTHON)

asan:
	@$(CTEST) -j$(JOBS) programs PYTHON=$(PYTHON) VARIANT=asan
	@$(CTEST) run PYTHON=$(PYTHON) VARIANT=asan

pytest:
	@PYTHONPATH=python $(PYTHON) -m pytest $(ARGS)

lint:
	@PYTHON=$(PYTHON) sh tools/lint.sh

format:
	@PYTHON=$(PYTHON) sh tools/lint.sh fix

fuzz:
	@PYTHON=$(PYTHON) sh tests/fuzz/run.sh $(FUZZ_SECONDS)

bench:
	PYTHONPATH=python $(PYTHON) benchmarks/peers.py $(ARGS)

bench-kernels:
	@$(CTEST) -j$(JOBS) benchmarks PYTHON=$(PYTHON)

clean:
	rm -rf build dist python/*.egg-info demo-report .mypy_cache .ruff_cache .pytest_cache
	rm -f python/facsnet/*.so python/facsnet/libfacs_openblas.LICENSE
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
