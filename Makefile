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
.PHONY: emulate emulate-races cuda cuda-build cuda-test cuda-check cuda-bench
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
	@echo
	@echo "make cuda       compile what runs on a GPU, for every architecture (needs nvcc)"
	@echo "make emulate    run the kernels of CUDA on the processor, thread by thread (SHARE=1: all cases)"
	@echo "make emulate-races  the same under ThreadSanitizer"
	@echo "make cuda-test  build for the GPU here with the python3 there is, run the tests of CUDA"
	@echo "make cuda-check the same under compute-sanitizer (TOOL=memcheck, racecheck, ...)"
	@echo "make cuda-bench compare with PyTorch on the GPU (ARGS='--quick' and so on)"
	@echo
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
	@sh tools/bootstrap.sh test
	@$(MAKE) --no-print-directory steps PYTHON=$(VENV)/python

# All are run, whatever fails, and the runners' closing lines stand at the end.
steps:
	@status=0; \
	$(MAKE) --no-print-directory lint || status=1; \
	$(MAKE) --no-print-directory ctest || status=1; \
	$(MAKE) --no-print-directory pytest || status=1; \
	$(MAKE) --no-print-directory cuda || status=1; \
	$(MAKE) --no-print-directory emulate || status=1; \
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
	$(if $(wildcard python/facsnet/_core*.so),PYTHONPATH=python) $(PYTHON) benchmarks/peers.py $(ARGS)

bench-kernels:
	@$(CTEST) -j$(JOBS) benchmarks PYTHON=$(PYTHON)

# --- the kernels of CUDA without a GPU (tests/emulator/emulator.h). Of the cases of convolutions
# every SHARE-th runs.

SHARE ?= 8
emulated = FACS_TEST_PLUGIN=$(CURDIR)/$(1) FACS_TEST_DRIVER=$(CURDIR)/$(1) FACS_TEST_SHARE=$(SHARE)
EMULATOR := $(call emulated,build/emulator/libfacs_cuda.so) OMP_WAIT_POLICY=passive

emulate:
	@$(MAKE) --no-print-directory -f tests/emulator/emulator.mk -j$(JOBS)
	@$(CTEST) -j$(JOBS) programs PYTHON=$(PYTHON) ONLY='kernels_*'
	@status=0; \
	$(EMULATOR) sh tests/c/run.sh build/ctest/plain/test_kernels_* || status=1; \
	$(EMULATOR) PYTHONPATH=python $(PYTHON) -m pytest tests/python/test_store.py tests/python/test_cuda.py \
	    -k "gpu and (store or mobilenet_v1) or tf32 and mobilenet_v1" || status=1; \
	exit $$status

# Races between the threads of a block. The library of ThreadSanitizer must be there first.
emulate-races:
	@$(MAKE) --no-print-directory -f tests/emulator/emulator.mk -j$(JOBS) RACES=1
	@$(CTEST) -j$(JOBS) programs PYTHON=$(PYTHON) ONLY='kernels_*'
	@$(call emulated,build/emulator/races/libfacs_cuda.so) FACS_TEST_SECONDS=3000 \
	    TSAN_OPTIONS=exitcode=66 FACS_TEST_PRELOAD=$$($(CC) -print-file-name=libtsan.so) OMP_NUM_THREADS=1 \
	    sh tests/c/run.sh build/ctest/plain/test_kernels_*

# --- a GPU. All but the first want one, and no network: they build into build/cuda, with the
# python3 found there if there is no .venv.

TOOL ?= memcheck
CUDA_LIBRARY := $(CURDIR)/build/cuda/lib
CUDA_PYTHON := PYTHONPATH=$(CUDA_LIBRARY) $(PYTHON)
CUDA_KERNELS := FACS_TEST_PLUGIN=$(CUDA_LIBRARY)/facsnet/libfacs_cuda.so

cuda:
	@FACS_WERROR=1 $(PYTHON) tools/cuda_plugin.py build/cuda/all/libfacs_cuda.so build/cuda/objects

cuda-build:
	@FACS_CUDA=1 FACS_CUDA_ARCH=$${FACS_CUDA_ARCH:-native} \
	    $(PYTHON) setup.py -q build --build-lib $(CUDA_LIBRARY) --build-temp build/cuda/temp
	@$(CUDA_PYTHON) -c "import facsnet as fn; \
	    fn.Network('mobilenet_v1', labels=1, width=0.25, device='cuda'); print(fn.about())"
	@$(CTEST) -j$(JOBS) programs PYTHON=$(PYTHON) ONLY='kernels_*'
	@$(CTEST) -j$(JOBS) programs PYTHON=$(PYTHON) ONLY=device

cuda-test: cuda-build
	@status=0; \
	$(CUDA_KERNELS) sh tests/c/run.sh build/ctest/plain/test_kernels_* build/ctest/plain/test_device || status=1; \
	$(CUDA_PYTHON) -m pytest tests/python/test_cuda.py tests/python/test_store.py tests/python/test_device.py $(ARGS) || status=1; \
	exit $$status

cuda-check: cuda-build
	@status=0; \
	for program in build/ctest/plain/test_kernels_*; do \
	    $(CUDA_KERNELS) compute-sanitizer --tool $(TOOL) --target-processes all --error-exitcode 99 $$program || status=1; \
	done; \
	PYTHONPATH=$(CUDA_LIBRARY) compute-sanitizer --tool $(TOOL) --error-exitcode 99 \
	    $(PYTHON) -m pytest tests/python/test_cuda.py -k smoke $(ARGS) || status=1; \
	exit $$status

cuda-bench: cuda-build
	$(CUDA_PYTHON) benchmarks/gpu.py $(ARGS)

clean:
	rm -rf build dist python/*.egg-info demo-report .mypy_cache .ruff_cache .pytest_cache
	rm -f python/facsnet/*.so python/facsnet/libfacs_openblas.LICENSE
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
