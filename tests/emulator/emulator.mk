# Builds the kernels of CUDA for the processor, as tests/emulator/emulator.h says:
# make -f tests/emulator/emulator.mk [MULTIPROCESSORS=2] [OUT=build/emulator]
# As few multiprocessors as this let blocks go round their loops in small cases too.

CXX ?= c++
MULTIPROCESSORS ?= 2
OUT ?= build/emulator

FLAGS := -std=c++17 -O2 -g1 -fPIC -fvisibility=hidden -fopenmp -fno-strict-aliasing -fno-extern-tls-init \
    -U_FORTIFY_SOURCE -Wall -Werror -Wno-unknown-pragmas -Itests/emulator -Icsrc \
    -include tests/emulator/emulated_ptx.h -DFACS_CUDA_MULTIPROCESSORS=$(MULTIPROCESSORS) -MMD -MP
OBJECTS := $(patsubst %,$(OUT)/%.o,$(notdir $(wildcard csrc/kernel/cuda/*.cu tests/emulator/*.cc)))

$(OUT)/libfacs_cuda.so: $(OBJECTS)
	@$(CXX) -shared -fopenmp -Wl,--no-undefined -o $@ $^ -lm

$(OUT)/%.cu.o: csrc/kernel/cuda/%.cu tests/emulator/emulator.mk
	@mkdir -p $(@D)
	@echo "CXX $<"
	@$(CXX) $(FLAGS) -x c++ -c -o $@ $<

$(OUT)/%.cc.o: tests/emulator/%.cc tests/emulator/emulator.mk
	@mkdir -p $(@D)
	@echo "CXX $<"
	@$(CXX) $(FLAGS) -c -o $@ $<

-include $(wildcard $(OUT)/*.d)
