#ifndef FACS_KERNEL_CUDA_LAUNCH_H
#define FACS_KERNEL_CUDA_LAUNCH_H

#include "kernel/cuda/ptx.h"

#include <stddef.h>

/* How kernels are launched: to the calling thread's own stream, so they run in the order they
 * were asked for. */

/* Whether the kernels were compiled for it, and the calling thread launches to its own stream:
 * what begins a branch waits for another stream. */
int facs_cuda_can_begin(void);

/* Where the calling thread launches: its own stream, or a branch of it while independent
 * work is spread. */
cudaStream_t facs_cuda_stream(void);

/* Two independent parts of a row: what is launched between go_aside and join runs beside what
 * is launched between fork and go_aside. Where fork returns 0 there is no other stream, the
 * others are not to be called, and all runs in its order. */
int facs_cuda_fork(void);
void facs_cuda_go_aside(void);
void facs_cuda_join(void);

/* Remembers the first error of the calling thread, if the last launch left one. */
void facs_cuda_launched(const char *kernel);

/* Built with FACS_CUDA_PDL=1, the launches of kernels that say facs_cuda_begin() before they
 * touch memory are made ready while the kernel before them still runs: programmatic dependent
 * launch, from sm_90 on. */
#ifndef FACS_CUDA_PDL
#    define FACS_CUDA_PDL 0
#endif

__device__ static inline void facs_cuda_begin(void)
{
    if (FACS_CUDA_PDL) wait_for_kernels_before();
}

/* kernel<<<grid, block, shared>>>(arguments...); shared: bytes of dynamic shared memory. A
 * launch that fails is remembered for facs_device->wait, by its name. */
template <class... Parameters, class... Arguments>
static inline void facs_cuda_launch(const char *name, int begins, void (*kernel)(Parameters...),
                                    dim3 grid, dim3 block, size_t shared,
                                    Arguments &&...arguments)
{
    cudaLaunchAttribute attribute = {};
    cudaLaunchConfig_t config = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = grid, config.blockDim = block, config.dynamicSmemBytes = shared;
    config.stream = facs_cuda_stream();
    config.attrs = &attribute;
    config.numAttrs = FACS_CUDA_PDL && begins && facs_cuda_can_begin() ? 1 : 0;
    (void)cudaLaunchKernelEx(&config, kernel, static_cast<Arguments &&>(arguments)...);
    facs_cuda_launched(name);
}

#define FACS_LAUNCH(kernel, ...)          facs_cuda_launch(#kernel, 0, kernel, __VA_ARGS__)
#define FACS_LAUNCH_AS(name, kernel, ...) facs_cuda_launch(name, 0, kernel, __VA_ARGS__)
/* Of a kernel that says facs_cuda_begin(). */
#define FACS_LAUNCH_BEGINNING(name, kernel, ...) facs_cuda_launch(name, 1, kernel, __VA_ARGS__)

/* Lets as many blocks of a kernel be in a multiprocessor as its shared memory has room for. */
template <class K> static inline void facs_cuda_prefer_shared(K *kernel)
{
    (void)cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                               cudaSharedmemCarveoutMaxShared);
}

/* Lets a kernel have more than 48 KiB of dynamic shared memory. */
template <class K> static inline void facs_cuda_allow_shared(K *kernel, size_t bytes)
{
    if (bytes <= 48 * 1024) return;
    (void)cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    facs_cuda_prefer_shared(kernel);
}

/* Bytes of shared memory that a block may have on the current device, 0 if that is not known.
 */
static inline size_t facs_cuda_shared_limit(void)
{
    int device = 0, bytes = 0;
    if (cudaGetDevice(&device) != 0 ||
        cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) != 0)
        return 0;
    return (size_t)bytes;
}

#endif
