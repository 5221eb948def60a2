#ifndef FACS_TESTS_EMULATOR_H
#define FACS_TESTS_EMULATOR_H

#include <cstddef>
#include <functional>

/* A GPU for tests where there is none: the blocks of a kernel run one after the other on every
 * processor, and the threads of a block take turns, each until it waits for others. Such a run
 * shows neither time nor what streams do at the same time: they do everything at once. Races
 * between threads of a block: see races.h. What it does show:
 *   - dynamic shared memory begins as NaN, and what lies behind the bytes of a launch must
 * stay;
 *   - copies that go on (cp.async) arrive when they are waited for, or at once;
 *   - threads take their turns forwards, backwards or in another order every round;
 *   - threads that wait for each other at different places end the program.
 * Environment:
 *   FACS_EMULATED_ORDER=forwards|backwards|shuffled, FACS_EMULATED_COPIES=late|early
 *   FACS_EMULATED_SHARED, FACS_EMULATED_MEMORY: bytes of shared memory that a block may have,
 *   and of the device */

namespace emulator
{

struct dimensions {
    unsigned x, y, z;
    constexpr dimensions(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

/* Runs a kernel; shared: bytes of dynamic shared memory. */
void run(dimensions grid, dimensions block, size_t shared, const std::function<void()> &kernel);

/* Ends the program: a kernel did what no GPU allows. */
[[noreturn]] void refuse(const char *what);

/* --- called by the threads of a kernel */

void wait_for_block();
void wait_for_pair(int pair);
void wait_for_warp();

/* 64 bits of every lane, as lane `from` gave them; all lanes of the warp call it. */
unsigned long long exchange(unsigned long long mine, int from);
int lane();

void copy(void *to, const void *from, int bytes, bool inside);
void end_copies();
void wait_for_copies(int left);

void load_matrices(unsigned r[4], unsigned address, bool transposed);
void multiply(float sum[4], const unsigned a[4], unsigned b0, unsigned b1);
void multiply_tf32(float sum[4], const unsigned a[4], unsigned b0, unsigned b1);
unsigned shared_address(const void *p);
void *shared_at(unsigned address);

} // namespace emulator

extern thread_local emulator::dimensions gridDim, blockDim, blockIdx, threadIdx;

#endif
