# Builds and runs tests/c/test_*.c: make -f tests/c/tests.mk [VARIANT=asan] [ONLY=name]
# Objects go to build/ctest/VARIANT. The flags come from tools/build_flags.py.
#   test_double_*.c  the library in double, with the reference kernels only
#   test_alloc_*.c   the heap's entry points are wrapped (__wrap_malloc and so on)

PYTHON ?= python3
VARIANT ?= plain
ONLY ?= *

OUT := build/ctest/$(VARIANT)
FLAGS := $(OUT)/flags.mk

$(shell mkdir -p $(OUT))
$(shell $(PYTHON) tools/build_flags.py > $(FLAGS).new && \
    { cmp -s $(FLAGS).new $(FLAGS) || cp $(FLAGS).new $(FLAGS); }; rm -f $(FLAGS).new)
include $(FLAGS)

CFLAGS := $(FACS_BASELINE) $(FACS_EXTRA) -g -Icsrc -Itests/c -MMD -MP
ifeq ($(VARIANT),asan)
CFLAGS += $(FACS_SANITIZER) -O2
endif
WRAP := -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=posix_memalign,--wrap=free

SOURCES := $(sort $(shell find csrc -name '*.c' -not -path 'csrc/py/*'))
DOUBLE_SOURCES := $(filter-out csrc/kernel/cpu/%,$(SOURCES))
OBJECTS := $(SOURCES:%.c=$(OUT)/float/%.o)
DOUBLE_OBJECTS := $(DOUBLE_SOURCES:%.c=$(OUT)/double/%.o)
TESTS := $(sort $(patsubst tests/c/%.c,%,$(wildcard tests/c/test_$(ONLY).c)))
PROGRAMS := $(TESTS:%=$(OUT)/%)

.PHONY: run programs library benchmarks
run: programs
	@sh tests/c/run.sh $(PROGRAMS)
programs: $(PROGRAMS)
library: $(OUT)/libfacs.a
benchmarks: $(OUT)/bench_kernels $(OUT)/bench_layers $(OUT)/bench_device

$(OUT)/float/%.o: %.c $(FLAGS)
	@mkdir -p $(@D)
	@echo "CC $<"
	@$(CC) $(CFLAGS) $(FACS_BLAS_COMPILE) $(FACS_UNIT_$(notdir $<)) -c -o $@ $<

$(OUT)/double/%.o: %.c $(FLAGS)
	@mkdir -p $(@D)
	@echo "CC $<"
	@$(CC) $(CFLAGS) -DFACS_DOUBLE -c -o $@ $<

$(OUT)/libfacs.a: $(OBJECTS)
$(OUT)/libfacs_double.a: $(DOUBLE_OBJECTS)
$(OUT)/%.a:
	@rm -f $@
	@$(AR) rcs $@ $^

$(OUT)/test_double_%: $(OUT)/double/tests/c/test_double_%.o $(OUT)/libfacs_double.a
	@$(CC) $(CFLAGS) -o $@ $^ -lm
$(OUT)/test_alloc_%: $(OUT)/float/tests/c/test_alloc_%.o $(OUT)/libfacs.a
	@$(CC) $(CFLAGS) $(WRAP) -o $@ $^ $(FACS_BLAS_LINK) -lm
$(OUT)/test_%: $(OUT)/float/tests/c/test_%.o $(OUT)/libfacs.a
	@$(CC) $(CFLAGS) -o $@ $^ $(FACS_BLAS_LINK) -lm
$(OUT)/bench_%: $(OUT)/float/benchmarks/kernels/bench_%.o $(OUT)/libfacs.a
	@$(CC) $(CFLAGS) -o $@ $^ $(FACS_BLAS_LINK) -lm

.SECONDARY:
-include $(shell find $(OUT) -name '*.d')
