PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)

.PHONY: help ctest asan clean
help:
	@echo "make ctest   build and run the C tests (ONLY=name for one of them)"
	@echo "make asan    the same under AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make clean   remove what was built"

ctest:
	@$(MAKE) --no-print-directory -f tests/c/tests.mk PYTHON=$(PYTHON)

asan:
	@$(MAKE) --no-print-directory -f tests/c/tests.mk PYTHON=$(PYTHON) VARIANT=asan

clean:
	rm -rf build
