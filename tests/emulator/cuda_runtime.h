#ifndef FACS_TESTS_CUDA_RUNTIME_H
#define FACS_TESTS_CUDA_RUNTIME_H

/* The part of CUDA's runtime that csrc/kernel/cuda uses, for a processor: see emulator.h. */

#include "emulator.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

using std::isfinite;
using std::isnan;
using std::max;
using std::min;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __shared__       thread_local

/* --- types */

typedef emulator::dimensions dim3;
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) ushort4 {
    unsigned short x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y)
{
    return {x, y};
}
static inline float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}
static inline ushort4 make_ushort4(unsigned short x, unsigned short y, unsigned short z,
                                   unsigned short w)
{
    return {x, y, z, w};
}
static inline uint2 make_uint2(unsigned x, unsigned y)
{
    return {x, y};
}
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return {x, y, z, w};
}

/* --- what a thread knows and calls */

static inline void __syncthreads()
{
    emulator::wait_for_block();
}
static inline void __syncwarp()
{
    emulator::wait_for_warp();
}

template <class T> static inline T facs_emulated_shuffle(unsigned mask, T value, int from)
{
    unsigned long long bits = 0;
    static_assert(sizeof value <= sizeof bits, "a shuffle is of 64 bits at most");
    if (mask != ~0u) emulator::refuse("a shuffle of a part of a warp");
    memcpy(&bits, &value, sizeof value);
    bits = emulator::exchange(bits, from);
    memcpy(&value, &bits, sizeof value);
    return value;
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T value, int apart)
{
    return facs_emulated_shuffle(mask, value, emulator::lane() ^ apart);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T value, int apart)
{
    const int from = emulator::lane() + apart;
    return facs_emulated_shuffle(mask, value, from < 32 ? from : emulator::lane());
}
static inline int __all_sync(unsigned mask, int holds)
{
    int all = holds != 0;
    for (int apart = 1; apart < 32; apart *= 2) all &= __shfl_xor_sync(mask, all, apart);
    return all;
}

template <class T> static inline T __ldg(const T *p)
{
    return *p;
}
template <class To, class From> static inline To facs_emulated_bits(From from)
{
    To to;
    static_assert(sizeof to == sizeof from, "bits of another size");
    memcpy(&to, &from, sizeof to);
    return to;
}
static inline float __uint_as_float(unsigned bits)
{
    return facs_emulated_bits<float>(bits);
}
static inline float __int_as_float(int bits)
{
    return facs_emulated_bits<float>(bits);
}
static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)((uint64_t)a * b >> 32);
}
static inline double __dmul_rn(double a, double b)
{
    return a * b;
}
static inline long long __double2ll_rn(double x)
{
    return llrint(x);
}
static inline double rsqrt(double x)
{
    return 1 / std::sqrt(x);
}
static inline float rsqrtf(float x)
{
    return 1 / sqrtf(x);
}

/* --- the runtime */

typedef enum cudaError { cudaSuccess = 0, cudaErrorMemoryAllocation = 2 } cudaError_t;
typedef struct facs_emulated_stream *cudaStream_t;
typedef struct facs_emulated_event *cudaEvent_t;
typedef struct facs_emulated_graph *cudaGraph_t, *cudaGraphExec_t;

#define cudaStreamPerThread ((cudaStream_t)2)
enum cudaMemcpyKind { cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice, cudaMemcpyDefault };
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
enum cudaDeviceAttr {
    cudaDevAttrMaxSharedMemoryPerBlockOptin,
    cudaDevAttrPageableMemoryAccessUsesHostPageTables
};
enum cudaFuncAttribute {
    cudaFuncAttributeMaxDynamicSharedMemorySize,
    cudaFuncAttributePreferredSharedMemoryCarveout
};
enum { cudaSharedmemCarveoutMaxShared = 100 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal };
enum cudaMemoryType { cudaMemoryTypeUnregistered, cudaMemoryTypeDevice = 2 };
enum cudaLaunchAttributeID { cudaLaunchAttributeProgrammaticStreamSerialization };

struct cudaDeviceProp {
    char name[256];
    int major, minor;
};
struct cudaFuncAttributes {
    int ptxVersion;
};
struct cudaPointerAttributes {
    cudaMemoryType type;
};
struct cudaLaunchAttribute {
    cudaLaunchAttributeID id;
    struct {
        int programmaticStreamSerializationAllowed;
    } val;
};
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    cudaLaunchAttribute *attrs;
    unsigned numAttrs;
};

const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device);
cudaError_t cudaMemGetInfo(size_t *free, size_t *total);
cudaError_t cudaMalloc(void **block, size_t bytes);
cudaError_t cudaFree(void *block);
cudaError_t cudaMemsetAsync(void *to, int byte, size_t bytes, cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *p);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *runnable, cudaGraph_t graph, unsigned flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph);
cudaError_t facs_emulated_launch(const cudaLaunchConfig_t *config, const void *kernel,
                                 const std::function<void()> &work);
cudaError_t facs_emulated_allow_shared(const void *kernel, int bytes);

template <class K> static inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *to, K *)
{
    to->ptxVersion = 90;
    return cudaSuccess;
}
template <class K>
static inline cudaError_t cudaFuncSetAttribute(K *kernel, cudaFuncAttribute attribute,
                                               int value)
{
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    return facs_emulated_allow_shared((const void *)kernel, value);
}
template <class... Parameters, class... Arguments>
static inline cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config,
                                             void (*kernel)(Parameters...),
                                             Arguments &&...arguments)
{
    return facs_emulated_launch(
        config, (const void *)kernel,
        std::bind(kernel, static_cast<Parameters>(static_cast<Arguments &&>(arguments))...));
}

#endif
