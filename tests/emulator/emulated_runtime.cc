#include "cuda_runtime.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

/* CUDA's runtime: everything is done when it is asked for, whatever its stream, unless the
 * stream is captured. */

enum { BEHIND_CAPTURE = 900, INVALID = 1, UNKNOWN_STREAM = 400 };

/* Work that was captured; the same object is the graph and what runs it. */
struct facs_emulated_graph {
    std::vector<std::function<void()>> work;
};
struct facs_emulated_stream {
};
struct facs_emulated_event {
    bool captured; /* recorded in a captured stream */
};

static thread_local cudaError_t last_error;
static thread_local facs_emulated_graph *capturing;
static thread_local bool capture_failed;
static thread_local std::vector<cudaStream_t> captured; /* the first began it */

static std::mutex lock;
static std::map<uintptr_t, size_t> blocks;
static std::map<const void *, size_t> allowed_shared;
static size_t used;

static size_t number_from(const char *name, size_t otherwise)
{
    const char *text = getenv(name);
    return text ? (size_t)strtoull(text, NULL, 10) : otherwise;
}

static size_t memory_total()
{
    return number_from("FACS_EMULATED_MEMORY", (size_t)8 << 30);
}

static size_t shared_limit()
{
    return number_from("FACS_EMULATED_SHARED", 227 * 1024);
}

static cudaError_t failed(int error)
{
    return last_error = (cudaError_t)error;
}

static bool is_captured(cudaStream_t stream)
{
    return std::find(captured.begin(), captured.end(), stream) != captured.end();
}

static cudaError_t issue(cudaStream_t stream, std::function<void()> work)
{
    if (!stream) return failed(UNKNOWN_STREAM);
    if (is_captured(stream))
        capturing->work.push_back(std::move(work));
    else
        work();
    return cudaSuccess;
}

/* What must not be asked while a stream is captured ends the capture, as CUDA has it. */
static cudaError_t outside_capture()
{
    if (!capturing) return cudaSuccess;
    capture_failed = true;
    return failed(BEHIND_CAPTURE);
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch ((int)error) {
    case cudaSuccess:
        return "no error";
    case INVALID:
        return "invalid argument";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case BEHIND_CAPTURE:
        return "operation not permitted when stream is capturing";
    default:
        return "unknown stream";
    }
}

cudaError_t cudaGetLastError()
{
    const cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

/* --- what the device is */

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int)
{
    snprintf(properties->name, sizeof properties->name, "an emulated GPU");
    properties->major = 9, properties->minor = 0;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int)
{
    *value = attribute == cudaDevAttrPageableMemoryAccessUsesHostPageTables
                 ? 0
                 : (int)shared_limit();
    return cudaSuccess;
}

/* --- memory */

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    const std::lock_guard<std::mutex> held(lock);
    *total = memory_total();
    *free_bytes = *total - used;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **block, size_t bytes)
{
    const std::lock_guard<std::mutex> held(lock);
    if (outside_capture() != cudaSuccess) return failed(BEHIND_CAPTURE);
    if (used + bytes > memory_total() || posix_memalign(block, 512, bytes) != 0)
        return failed(cudaErrorMemoryAllocation);
    memset(*block, 0xff, bytes);
    blocks[(uintptr_t)*block] = bytes;
    used += bytes;
    return cudaSuccess;
}

cudaError_t cudaFree(void *block)
{
    const std::lock_guard<std::mutex> held(lock);
    if (!block) return cudaSuccess;
    if (outside_capture() != cudaSuccess) return last_error;
    const auto found = blocks.find((uintptr_t)block);
    if (found == blocks.end()) return failed(INVALID);
    used -= found->second;
    blocks.erase(found);
    free(block);
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *p)
{
    const std::lock_guard<std::mutex> held(lock);
    auto after = blocks.upper_bound((uintptr_t)p);
    attributes->type = cudaMemoryTypeUnregistered;
    if (after == blocks.begin()) return cudaSuccess;
    --after;
    if ((uintptr_t)p < after->first + after->second) attributes->type = cudaMemoryTypeDevice;
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int byte, size_t bytes, cudaStream_t stream)
{
    return issue(stream, [=] { memset(to, byte, bytes); });
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream)
{
    return issue(stream, [=] { memcpy(to, from, bytes); });
}

/* --- streams, which do everything at once */

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (!stream) return failed(UNKNOWN_STREAM);
    return is_captured(stream) ? outside_capture() : cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    *stream = new facs_emulated_stream();
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    delete stream;
    return cudaSuccess;
}

/* A stream that waits for a captured one is captured with it. */
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    if (!stream || !event) return failed(INVALID);
    if (event->captured && capturing && !is_captured(stream)) captured.push_back(stream);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    *event = new facs_emulated_event();
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    if (!stream || !event) return failed(INVALID);
    event->captured = is_captured(stream);
    return cudaSuccess;
}

/* --- graphs */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    if (!stream || capturing) return failed(BEHIND_CAPTURE);
    capturing = new facs_emulated_graph();
    captured.assign(1, stream);
    capture_failed = false;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    *graph = NULL;
    if (captured.empty() || captured[0] != stream) return failed(INVALID);
    *graph = capturing;
    capturing = NULL;
    captured.clear();
    if (!*graph) return failed(INVALID);
    if (!capture_failed) return cudaSuccess;
    delete *graph;
    *graph = NULL;
    return failed(BEHIND_CAPTURE);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *runnable, cudaGraph_t graph, unsigned)
{
    *runnable = new facs_emulated_graph(*graph);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t)
{
    for (const auto &work : graph->work) work();
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph)
{
    delete graph;
    return cudaSuccess;
}

/* --- kernels */

cudaError_t facs_emulated_allow_shared(const void *kernel, int bytes)
{
    const std::lock_guard<std::mutex> held(lock);
    if (bytes < 0 || (size_t)bytes > shared_limit()) return failed(INVALID);
    allowed_shared[kernel] = (size_t)bytes;
    return cudaSuccess;
}

cudaError_t facs_emulated_launch(const cudaLaunchConfig_t *config, const void *kernel,
                                 const std::function<void()> &work)
{
    const dim3 grid = config->gridDim, block = config->blockDim;
    const size_t shared = config->dynamicSmemBytes;
    size_t allowed = 48 * 1024;
    {
        const std::lock_guard<std::mutex> held(lock);
        const auto found = allowed_shared.find(kernel);
        if (found != allowed_shared.end() && found->second > allowed) allowed = found->second;
    }
    const uint64_t threads = (uint64_t)block.x * block.y * block.z;
    if (shared > allowed || threads == 0 || threads > 1024 || grid.x == 0 || grid.y == 0 ||
        grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
        return failed(INVALID);
    return issue(config->stream, [=] { emulator::run(grid, block, shared, work); });
}

/* --- the driver, as tests/c/reachable.h asks it for memory that both sides reach */

#define DRIVER extern "C" __attribute__((visibility("default"))) int

DRIVER cuInit(unsigned)
{
    return 0;
}
DRIVER cuDeviceGet(int *device, int)
{
    *device = 0;
    return 0;
}
DRIVER cuDevicePrimaryCtxRetain(void **context, int)
{
    *context = NULL;
    return 0;
}
DRIVER cuCtxSetCurrent(void *)
{
    return 0;
}
DRIVER cuMemHostAlloc(void **block, size_t bytes, unsigned)
{
    return posix_memalign(block, 512, bytes);
}
