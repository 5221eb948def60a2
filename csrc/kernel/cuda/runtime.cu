#include "kernel/cuda/runtime.h"

#include "kernel/cuda/cuda.h"

#include <new>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where errors go: the same function for every library that opens the plugin once. */
static facs_report *report;

/* The first error since the thread's last wait. */
struct fault {
    cudaError_t error;
    char where[64];
};
static thread_local fault first_fault;

static void remember(cudaError_t error, const char *where)
{
    if (error == cudaSuccess || first_fault.error != cudaSuccess) return;
    first_fault.error = error;
    snprintf(first_fault.where, sizeof first_fault.where, "%s", where);
}

void facs_cuda_launched(const char *kernel)
{
    remember(cudaGetLastError(), kernel);
}

static facs_status fail(cudaError_t error, const char *where)
{
    return report(FACS_E_DEVICE, "cuda: %s: %s", where, cudaGetErrorString(error));
}

/* Rows of one launch: they travel as its argument. */
static const int64_t ROWS = 256;
struct row_list {
    int64_t row[ROWS];
};

template <class Word>
__global__ static void gather_rows(Word *to, const Word *from, row_list rows, int64_t words)
{
    const Word *source = from + rows.row[blockIdx.y] * words;
    Word *target = to + blockIdx.y * words;
    for (int64_t i = blockIdx.x * blockDim.x + threadIdx.x; i < words;
         i += (int64_t)gridDim.x * blockDim.x)
        target[i] = source[i];
}

/* Whether kernels were compiled to wait for those before them. */
static int waits;

static int tf32;

int facs_cuda_tf32(void)
{
    return tf32;
}

/* Whether the GPU reads the host's memory by itself, so that none of it is copied aside before
 * a copy to the device returns. */
static int reads_host;

facs_status facs_cuda_describe(facs_plugin *plugin, facs_report *to)
{
    int count = 0, device = 0, driver = 0;
    cudaDeviceProp properties;

    report = to;
    const cudaError_t counted = cudaGetDeviceCount(&count);
    (void)cudaDriverGetVersion(&driver);
    if (driver == 0)
        return to(FACS_E_DEVICE, "cuda: no NVIDIA driver was found on this machine");
    if (counted != cudaSuccess || count == 0)
        return to(FACS_E_DEVICE, "cuda: no GPU was found: %s",
                  counted == cudaSuccess ? "the driver lists none"
                                         : cudaGetErrorString(counted));
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) error = cudaGetDeviceProperties(&properties, device);
    if (error == cudaSuccess)
        error = cudaMemGetInfo(&plugin->memory_free, &plugin->memory_total);
    if (error != cudaSuccess) return fail(error, "asking the GPU what it is");
    if (properties.major < 8)
        return to(FACS_E_DEVICE, "cuda: %s is sm_%d%d, want at least sm_80", properties.name,
                  properties.major, properties.minor);
    cudaFuncAttributes compiled;
    error = cudaFuncGetAttributes(&compiled, gather_rows<uint4>);
    if (error != cudaSuccess) return fail(error, "looking for a kernel");
    (void)cudaDeviceGetAttribute(&reads_host, cudaDevAttrPageableMemoryAccessUsesHostPageTables,
                                 device);
    const char *rounding = getenv("FACS_CUDA_TF32");
    tf32 = rounding && strcmp(rounding, "1") == 0;
    waits = FACS_CUDA_PDL && properties.major >= 9 && compiled.ptxVersion >= 90;
    plugin->driver = driver;
    snprintf(plugin->description, sizeof plugin->description, "%s", properties.name);
    snprintf(plugin->capability, sizeof plugin->capability, "sm_%d%d", properties.major,
             properties.minor);
    return FACS_OK;
}

/* --- memory */

static facs_status allocate(void *out, size_t bytes, const char *purpose)
{
    void *block = NULL;
    size_t available = 0, total = 0;

    memcpy(out, &block, sizeof block);
    cudaError_t error = cudaMalloc(&block, bytes ? bytes : 1);
    if (error == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        (void)cudaMemGetInfo(&available, &total);
        return report(FACS_E_OOM, "%s: cannot allocate %.1f MiB on the GPU, %.1f MiB are free",
                      purpose, (double)bytes / (1 << 20), (double)available / (1 << 20));
    }
    if (error == cudaSuccess) error = cudaMemsetAsync(block, 0, bytes, cudaStreamPerThread);
    /* Another thread's stream may use the block next. */
    if (error == cudaSuccess) error = cudaStreamSynchronize(cudaStreamPerThread);
    if (error != cudaSuccess) {
        (void)cudaFree(block);
        (void)cudaGetLastError();
        return fail(error, purpose);
    }
    memcpy(out, &block, sizeof block);
    return FACS_OK;
}

static void release(void *block)
{
    (void)cudaFree(block);
    (void)cudaGetLastError();
}

static cudaMemoryType kind_of(const void *p)
{
    cudaPointerAttributes attributes;
    const int known = cudaPointerGetAttributes(&attributes, p) == cudaSuccess;
    (void)cudaGetLastError();
    return known ? attributes.type : cudaMemoryTypeUnregistered;
}

/* Ordinary memory of the host has been copied aside when the call returns; of other memory,
 * which others may have registered or share with the GPU, the copy itself is waited for. */
static void upload(void *to, const void *from, size_t bytes)
{
    const cudaMemoryType kind = kind_of(from);
    remember(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, cudaStreamPerThread),
             "upload");
    if (kind == cudaMemoryTypeDevice || (kind == cudaMemoryTypeUnregistered && !reads_host))
        return;
    remember(cudaStreamSynchronize(cudaStreamPerThread), "upload");
}

static void download(void *host, const void *from, size_t bytes)
{
    remember(cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, cudaStreamPerThread),
             "download");
    remember(cudaStreamSynchronize(cudaStreamPerThread), "download");
}

static void copy(void *to, const void *from, size_t bytes)
{
    remember(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, facs_cuda_stream()),
             "copy");
}

template <class Word>
static void gather_words(void *to, const void *from, const int64_t *rows, int64_t n,
                         int64_t words)
{
    for (int64_t first = 0; first < n; first += ROWS) {
        const int64_t left = n - first < ROWS ? n - first : ROWS;
        row_list list = {};
        memcpy(list.row, rows + first, (size_t)left * sizeof *rows);
        const unsigned across = facs_cuda_blocks(words, 256 * 4);
        const dim3 grid(across < 64 ? across : 64, (unsigned)left);
        FACS_LAUNCH(gather_rows<Word>, grid, 256, 0, (Word *)to + first * words,
                    (const Word *)from, list, words);
    }
}

static void gather(void *to, const void *from, const int64_t *rows, int64_t n, size_t row_bytes)
{
    if (kind_of(from) != cudaMemoryTypeUnregistered) {
        const int wide =
            row_bytes % 16 == 0 && (uintptr_t)from % 16 == 0 && (uintptr_t)to % 16 == 0;
        if (wide)
            gather_words<uint4>(to, from, rows, n, (int64_t)(row_bytes / 16));
        else
            gather_words<uint8_t>(to, from, rows, n, (int64_t)row_bytes);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        upload((char *)to + (size_t)i * row_bytes,
               (const char *)from + (size_t)rows[i] * row_bytes, row_bytes);
}

static facs_status wait_for_all(void)
{
    remember(cudaStreamSynchronize(cudaStreamPerThread), "waiting");
    const fault found = first_fault;
    first_fault.error = cudaSuccess;
    return found.error == cudaSuccess ? FACS_OK : fail(found.error, found.where);
}

/* --- independent work: branches of the thread's stream */

enum { BRANCHES = 8 };

struct branches {
    cudaStream_t stream[BRANCHES];
    cudaEvent_t fork, join[BRANCHES];
    int ready;

    void destroy()
    {
        for (int i = 0; i < BRANCHES; i++) {
            if (stream[i]) (void)cudaStreamDestroy(stream[i]);
            if (join[i]) (void)cudaEventDestroy(join[i]);
            stream[i] = NULL, join[i] = NULL;
        }
        if (fork) (void)cudaEventDestroy(fork);
        fork = NULL, ready = 0;
    }
    ~branches() { destroy(); }
};
static thread_local branches side;
static thread_local cudaStream_t current;   /* the branch launched to, NULL: none */
static thread_local cudaStream_t capturing; /* NULL: nothing is captured */

/* The one that branches leave and come back to. */
static cudaStream_t own_stream(void)
{
    return capturing ? capturing : cudaStreamPerThread;
}

int facs_cuda_can_begin(void)
{
    return waits && !current;
}

cudaStream_t facs_cuda_stream(void)
{
    return current ? current : own_stream();
}

static int make_branches(void)
{
    if (side.ready) return 1;
    cudaError_t error = cudaEventCreateWithFlags(&side.fork, cudaEventDisableTiming);
    for (int i = 0; i < BRANCHES && error == cudaSuccess; i++) {
        error = cudaStreamCreateWithFlags(&side.stream[i], cudaStreamNonBlocking);
        if (error == cudaSuccess)
            error = cudaEventCreateWithFlags(&side.join[i], cudaEventDisableTiming);
    }
    side.ready = error == cudaSuccess;
    if (!side.ready) side.destroy();
    (void)cudaGetLastError();
    return side.ready;
}

static void fork_to(int count)
{
    remember(cudaEventRecord(side.fork, own_stream()), "spreading");
    for (int i = 0; i < count; i++)
        remember(cudaStreamWaitEvent(side.stream[i], side.fork, 0), "spreading");
}

static void join_from(int count)
{
    for (int i = 0; i < count; i++) {
        remember(cudaEventRecord(side.join[i], side.stream[i]), "spreading");
        remember(cudaStreamWaitEvent(own_stream(), side.join[i], 0), "spreading");
    }
}

static void spread(int threads, int64_t blocks, facs_task *task, void *context)
{
    (void)threads;
    const int branched = make_branches();
    if (branched) fork_to(BRANCHES);
    for (int64_t block = 0; block < blocks; block++) {
        current = branched ? side.stream[block % BRANCHES] : NULL;
        task(context, block, 0);
    }
    current = NULL;
    if (branched) join_from(BRANCHES);
}

int facs_cuda_fork(void)
{
    if (current || !make_branches()) return 0;
    fork_to(1);
    return 1;
}

void facs_cuda_go_aside(void)
{
    current = side.stream[0];
}

void facs_cuda_join(void)
{
    current = NULL;
    join_from(1);
}

/* --- recordings: CUDA graphs */

struct facs_recording {
    int runs;
    cudaGraphExec_t graph;
};

/* Captures what work launches. A failure leaves the graph NULL and no error behind: the work is
 * then launched as it is. On a stream of its own: while the thread's were captured, nobody
 * could launch to the legacy stream, which it waits for. */
static void capture(facs_recording *r, void (*work)(void *context), void *context)
{
    const fault before = first_fault;
    cudaGraph_t graph = NULL;
    cudaStream_t stream = NULL;

    (void)make_branches(); /* not while something is captured */
    if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess &&
        cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess) {
        capturing = stream;
        work(context);
        capturing = NULL;
        if (cudaStreamEndCapture(stream, &graph) != cudaSuccess || !graph ||
            cudaGraphInstantiate(&r->graph, graph, 0) != cudaSuccess) {
            r->graph = NULL;
            first_fault = before;
        }
    }
    if (graph) (void)cudaGraphDestroy(graph);
    if (stream) (void)cudaStreamDestroy(stream);
    (void)cudaGetLastError();
}

/* The first time work runs as it is, so that all it needs is loaded; the second is captured. */
static void run(facs_recording **recording, void (*work)(void *context), void *context)
{
    if (!*recording) *recording = new (std::nothrow) facs_recording();
    facs_recording *r = *recording;
    if (r && r->runs++ == 1) capture(r, work, context);
    if (r && r->graph)
        remember(cudaGraphLaunch(r->graph, cudaStreamPerThread), "launching a graph");
    else
        work(context);
}

static void forget(facs_recording *recording)
{
    if (!recording) return;
    if (recording->graph) (void)cudaGraphExecDestroy(recording->graph);
    (void)cudaGetLastError();
    delete recording;
}

const facs_device facs_cuda_device = {
    "cuda", 1,      allocate, release, upload, download,
    copy,   gather, spread,   run,     forget, wait_for_all,
};
