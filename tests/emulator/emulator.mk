# Builds the kernels of CUDA for the processor, as tests/emulator/emulator.h says:
# make -f tests/emulator/emulator.mk [MULTIPROCESSORS=2] [OUT=build/emulator] [RACES=1]
# As few multiprocessors as this let blocks go round their loops in small cases too. What is
# undefined, such as a vector that is not aligned to its size, ends the program. RACES=1 looks
# for races instead (races.h); blocks then run one after the other.

ifeq ($(origin CXX),default)
CXX := c++
endif
MULTIPROCESSORS ?= 2

ifdef RACES
OUT ?= build/emulator/races
OWN_FLAGS := -DFACS_EMULATED_RACES
KERNEL_FLAGS := -fsanitize=thread --param tsan-instrument-func-entry-exit=0
LINK_FLAGS := -fsanitize=thread
else
OUT ?= build/emulator
OWN_FLAGS := -fopenmp -fsanitize=undefined -fno-sanitize=vptr -fno-sanitize-recover=undefined
LINK_FLAGS := $(OWN_FLAGS)
endif

FLAGS := -std=c++17 -O2 -g1 -fPIC -fvisibility=hidden -fno-strict-aliasing -fno-extern-tls-init \
    -U_FORTIFY_SOURCE $(OWN_FLAGS) -Wall -Werror -Wno-unknown-pragmas -Itests/emulator -Icsrc \
    -include tests/emulator/emulated_ptx.h -DFACS_CUDA_MULTIPROCESSORS=$(MULTIPROCESSORS) -MMD -MP
OBJECTS := $(patsubst %,$(OUT)/%.o,$(notdir $(wildcard csrc/kernel/cuda/*.cu tests/emulator/*.cc)))

$(OUT)/libfacs_cuda.so: $(OBJECTS)
	@$(CXX) -shared $(LINK_FLAGS) -Wl,--no-undefined -o $@ $^ -lm

$(OUT)/%.cu.o: csrc/kernel/cuda/%.cu tests/emulator/emulator.mk
	@mkdir -p $(@D)
	@echo "CXX $<"
	@$(CXX) $(FLAGS) $(KERNEL_FLAGS) -x c++ -c -o $@ $<

$(OUT)/%.cc.o: tests/emulator/%.cc tests/emulator/emulator.mk
	@mkdir -p $(@D)
	@echo "CXX $<"
	@$(CXX) $(FLAGS) -c -o $@ $<

-include $(wildcard $(OUT)/*.d)
