#ifndef FACS_CORE_HOST_DEVICE_H
#define FACS_CORE_HOST_DEVICE_H

/* Marks what CUDA's kernels call too. */
#ifdef __CUDACC__
#    define FACS_HOST_DEVICE __host__ __device__
#else
#    define FACS_HOST_DEVICE
#endif

#endif
