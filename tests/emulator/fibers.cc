#include "emulator.h"

#include "races.h"

#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <ucontext.h>
#include <utility>
#include <vector>

/* The blocks of a kernel, and the threads of a block as fibers of one processor's thread. */

enum { LARGEST_SHARED = 227 * 1024, WATCHED = 1024, STACK = 128 * 1024, PAIRS = 15 };

/* What kernels see as `extern __shared__ char shared[]`. */
thread_local __attribute__((aligned(1024))) char shared[LARGEST_SHARED + WATCHED];

thread_local emulator::dimensions gridDim, blockDim, blockIdx, threadIdx;

namespace emulator
{

void refuse(const char *what)
{
    fprintf(stderr, "emulated GPU: block (%u, %u, %u), thread (%u, %u, %u): %s\n", blockIdx.x,
            blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z, what);
    abort();
}

static bool chosen(const char *name, const char *value)
{
    const char *choice = getenv(name);
    return choice && strcmp(choice, value) == 0;
}

namespace
{

struct barrier {
    int arrived;
    unsigned generation;
    char passed[2]; /* by the parity of the generation: what orders memory */
};

struct pending_copy {
    void *to;
    const void *from;
    int bytes;
    bool inside;

    /* Between here and the wait others may see any of it. */
    void begin() const
    {
        if (inside) races::read(from, (size_t)bytes);
        races::write(to, (size_t)bytes);
    }

    void run() const
    {
        if (inside)
            memcpy(to, from, (size_t)bytes);
        else
            memset(to, 0, (size_t)bytes);
    }
};

struct fiber {
    ucontext_t context;
    jmp_buf state;
    void *seen_as; /* by the detector of races */
    std::unique_ptr<char[]> stack;
    bool started, done;
    std::vector<pending_copy> copies;
    std::vector<size_t> ends; /* of groups, in copies */
};

/* What a warp does together. */
enum action { WAIT, EXCHANGE, LOAD, LOAD_TRANSPOSED, MULTIPLY, MULTIPLY_TF32 };

struct warp {
    barrier all;
    int alive;
    action doing;
    /* What lanes give and get, by the parity of the generation: nobody is two of them ahead. */
    struct {
        unsigned long long bits[32];
        unsigned left[32][4], right[32][2];
        float sums[32][4];
    } lanes[2];

    void load(unsigned parity, bool transposed);
    void multiply(unsigned parity);
    void multiply_tf32(unsigned parity);
};

/* A processor's thread that runs blocks. */
struct machine {
    std::vector<std::unique_ptr<fiber>> fibers;
    std::vector<warp> warps;
    barrier block, pairs[PAIRS];
    jmp_buf home;
    ucontext_t home_context;
    char begun, ended; /* of a block: what orders memory */
    const std::function<void()> *kernel;
    int now, alive;
    unsigned progress, seed = 1;

    fiber &mine() { return *fibers[(size_t)now]; }
    warp &of_warp() { return warps[(size_t)now / 32]; }
};

thread_local machine here;

void yield()
{
    fiber &f = here.mine();
    if (races::DETECTED)
        races::swap(&f.context, &here.home_context, races::home());
    else if (_setjmp(f.state) == 0)
        _longjmp(here.home, 1);
}

void release(barrier *b)
{
    b->arrived = 0;
    b->generation++;
    here.progress++;
}

/* orders: whether memory is the same for all behind it. */
void wait_at(barrier *b, int count, bool orders)
{
    const unsigned generation = b->generation;
    char *const passed = &b->passed[generation & 1];

    here.progress++;
    if (orders) races::release(passed);
    if (++b->arrived == count)
        release(b);
    else
        while (generation == b->generation) yield();
    if (orders) races::acquire(passed);
}

/* ldmatrix: rows lie where bits say; to left. */
void warp::load(unsigned parity, bool transposed)
{
    for (int l = 0; l < 32; l++)
        for (int m = 0; m < 4; m++) {
            unsigned pair[2];
            for (int k = 0; k < 2; k++) {
                const int row = transposed ? l % 4 * 2 + k : l / 4;
                const int column = transposed ? l / 4 : l % 4 * 2 + k;
                const uintptr_t from = (uintptr_t)lanes[parity].bits[8 * m + row];
                pair[k] = ((const unsigned short *)from)[column];
            }
            lanes[parity].left[l][m] = pair[0] | pair[1] << 16;
        }
}

float float_of(unsigned bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

float half_of(unsigned pair, int high)
{
    return float_of(high ? pair & 0xffff0000u : pair << 16);
}

/* mma.m16n8k16: sums += left right */
void warp::multiply(unsigned parity)
{
    auto &given = lanes[parity];
    float a[16][16], b[16][8], sums[16][8];

    for (int l = 0; l < 32; l++) {
        for (int k = 0; k < 2; k++) {
            for (int i = 0; i < 4; i++)
                a[l / 4 + i % 2 * 8][l % 4 * 2 + k + i / 2 * 8] = half_of(given.left[l][i], k);
            for (int i = 0; i < 2; i++)
                b[l % 4 * 2 + k + i * 8][l / 4] = half_of(given.right[l][i], k);
        }
        for (int i = 0; i < 4; i++)
            sums[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2] = given.sums[l][i];
    }
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < 16; k++)
            for (int column = 0; column < 8; column++)
                sums[row][column] += a[row][k] * b[k][column];
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++)
            given.sums[l][i] = sums[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2];
}

/* mma.m16n8k8 of TF32: sums += left right */
void warp::multiply_tf32(unsigned parity)
{
    auto &given = lanes[parity];
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++) {
            const int row = l / 4 + i / 2 * 8, column = l % 4 * 2 + i % 2;
            for (int k = 0; k < 8; k++)
                given.sums[l][i] +=
                    float_of(given.left[row % 8 * 4 + k % 4][row / 8 + k / 4 * 2]) *
                    float_of(given.right[column * 4 + k % 4][k / 4]);
        }
}

/* Waits for all lanes, which must do the same; returns where what they gave lies. */
unsigned together(action doing)
{
    warp &w = here.of_warp();
    const unsigned parity = w.all.generation & 1;

    if (doing != WAIT && w.alive < 32) refuse("what a whole warp does, by a part of one");
    if (w.all.arrived == 0) w.doing = doing;
    if (w.doing != doing) refuse("the lanes of a warp do different things");
    if (w.all.arrived == w.alive - 1) {
        if (doing == MULTIPLY) w.multiply(parity);
        if (doing == MULTIPLY_TF32) w.multiply_tf32(parity);
        if (doing == LOAD || doing == LOAD_TRANSPOSED) w.load(parity, doing == LOAD_TRANSPOSED);
    }
    wait_at(&w.all, w.alive, doing == WAIT);
    return parity;
}

void leave()
{
    warp &w = here.of_warp();
    if (w.all.arrived && w.doing != WAIT) refuse("leaves, and its warp waits for all lanes");
    here.mine().done = true;
    here.alive--, w.alive--;
    here.progress++;
    if (here.alive && here.block.arrived == here.alive) release(&here.block);
    if (w.alive && w.all.arrived == w.alive) release(&w.all);
}

/* The life of a fiber: a thread of every block. */
void live()
{
    for (;;) {
        races::acquire(&here.begun);
        (*here.kernel)();
        races::release(&here.ended);
        leave();
        yield();
    }
}

/* A fiber's turn, until it waits or is done. */
void resume(int thread)
{
    fiber &f = *here.fibers[(size_t)thread];
    const unsigned i = (unsigned)thread;

    here.now = thread;
    threadIdx =
        dimensions(i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y);
    if (races::DETECTED) {
        races::swap(&here.home_context, &f.context, f.seen_as);
        return;
    }
    if (_setjmp(here.home) != 0) return;
    if (f.started) _longjmp(f.state, 1);
    f.started = true;
    setcontext(&f.context);
}

void make_fibers(int count)
{
    (void)races::home(); /* asked for at home first */
    while ((int)here.fibers.size() < count) {
        here.fibers.emplace_back(new fiber);
        fiber &f = *here.fibers.back();
        f.started = false;
        f.stack.reset(new char[STACK]);
        f.seen_as = races::make_fiber();
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.get();
        f.context.uc_stack.ss_size = STACK;
        makecontext(&f.context, live, 0);
    }
}

void run_block(int threads, size_t bytes)
{
    static const bool backwards = chosen("FACS_EMULATED_ORDER", "backwards");
    static const bool shuffled = chosen("FACS_EMULATED_ORDER", "shuffled");
    std::vector<int> turns((size_t)threads);

    memset(shared, 0xff, bytes); /* not a number */
    memset(shared + bytes, 0x5a, WATCHED);
    here.warps.assign((size_t)(threads + 31) / 32, warp());
    here.block = barrier();
    for (barrier &pair : here.pairs) pair = barrier();
    here.alive = threads;
    for (int i = 0; i < threads; i++) {
        fiber &f = *here.fibers[(size_t)i];
        f.done = false;
        f.copies.clear(), f.ends.clear();
        here.warps[(size_t)i / 32].alive++;
        turns[(size_t)i] = backwards ? threads - 1 - i : i;
    }
    races::release(&here.begun);
    while (here.alive) {
        const unsigned before = here.progress;
        for (size_t i = turns.size(); shuffled && i > 1; i--) {
            here.seed = here.seed * 1664525u + 1013904223u;
            std::swap(turns[i - 1], turns[(here.seed >> 8) % i]);
        }
        for (int thread : turns)
            if (!here.fibers[(size_t)thread]->done) resume(thread);
        if (here.progress == before) refuse("threads wait for each other at different places");
    }
    races::acquire(&here.ended);
    for (int i = 0; i < WATCHED; i++)
        if (shared[bytes + (size_t)i] != 0x5a) refuse("wrote behind its shared memory");
}

} // namespace

void run(dimensions grid, dimensions block, size_t bytes, const std::function<void()> &kernel)
{
    const int threads = (int)(block.x * block.y * block.z);
    const int64_t blocks = (int64_t)grid.x * grid.y * grid.z;

#pragma omp parallel for schedule(dynamic) if (blocks > 1)
    for (int64_t i = 0; i < blocks; i++) {
        const unsigned at = (unsigned)i;
        make_fibers(threads);
        here.kernel = &kernel;
        gridDim = grid, blockDim = block;
        blockIdx = dimensions(at % grid.x, at / grid.x % grid.y, at / grid.x / grid.y);
        run_block(threads, bytes);
    }
}

int lane()
{
    return here.now % 32;
}

void wait_for_block()
{
    wait_at(&here.block, here.alive, true);
}

void wait_for_pair(int pair)
{
    if (pair < 0 || pair >= PAIRS) refuse("no such barrier");
    wait_at(&here.pairs[pair], 64, true);
}

void wait_for_warp()
{
    (void)together(WAIT);
}

unsigned long long exchange(unsigned long long mine, int from)
{
    warp &w = here.of_warp();
    w.lanes[w.all.generation & 1].bits[lane()] = mine;
    return w.lanes[together(EXCHANGE)].bits[from];
}

unsigned shared_address(const void *p)
{
    const char *byte = (const char *)p;
    if (byte < shared || byte >= shared + sizeof shared)
        refuse("not an address of shared memory");
    return (unsigned)(byte - shared);
}

void *shared_at(unsigned address)
{
    if (address >= sizeof shared) refuse("an address behind shared memory");
    return shared + address;
}

void load_matrices(unsigned r[4], unsigned address, bool transposed)
{
    warp &w = here.of_warp();

    if (address % 16) refuse("a row of a matrix is not aligned to 16 bytes");
    races::read(shared_at(address), 16);
    w.lanes[w.all.generation & 1].bits[lane()] = (uintptr_t)shared_at(address);
    const unsigned parity = together(transposed ? LOAD_TRANSPOSED : LOAD);
    memcpy(r, w.lanes[parity].left[lane()], sizeof w.lanes[parity].left[0]);
}

static void multiply_as(action kind, float sum[4], const unsigned a[4], unsigned b0,
                        unsigned b1)
{
    warp &w = here.of_warp();
    auto &given = w.lanes[w.all.generation & 1];

    memcpy(given.left[lane()], a, sizeof given.left[0]);
    given.right[lane()][0] = b0, given.right[lane()][1] = b1;
    memcpy(given.sums[lane()], sum, sizeof given.sums[0]);
    const unsigned parity = together(kind);
    memcpy(sum, w.lanes[parity].sums[lane()], sizeof given.sums[0]);
}

void multiply(float sum[4], const unsigned a[4], unsigned b0, unsigned b1)
{
    multiply_as(MULTIPLY, sum, a, b0, b1);
}

void multiply_tf32(float sum[4], const unsigned a[4], unsigned b0, unsigned b1)
{
    multiply_as(MULTIPLY_TF32, sum, a, b0, b1);
}

void copy(void *to, const void *from, int bytes, bool inside)
{
    static const bool early = chosen("FACS_EMULATED_COPIES", "early");
    const pending_copy copy = {to, from, bytes, inside};

    if (shared_address(to) % (unsigned)bytes || (inside && (uintptr_t)from % (uintptr_t)bytes))
        refuse("a copy is not aligned to its bytes");
    copy.begin();
    if (early)
        copy.run();
    else
        here.mine().copies.push_back(copy);
}

void end_copies()
{
    fiber &f = here.mine();
    f.ends.push_back(f.copies.size());
}

void wait_for_copies(int left)
{
    fiber &f = here.mine();
    if ((int)f.ends.size() <= left) return;
    const size_t groups = f.ends.size() - (size_t)left, count = f.ends[groups - 1];
    for (size_t i = 0; i < count; i++) f.copies[i].run();
    f.copies.erase(f.copies.begin(), f.copies.begin() + (ptrdiff_t)count);
    f.ends.erase(f.ends.begin(), f.ends.begin() + (ptrdiff_t)groups);
    for (size_t &end : f.ends) end -= count;
}

} // namespace emulator
