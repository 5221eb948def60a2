#ifndef FACS_PY_DLPACK_H
#define FACS_PY_DLPACK_H

#include <stdint.h>

/* The binary interface of DLPack (dmlc.github.io/dlpack), first version, by its own names. A
 * capsule named "dltensor" holds a DLManagedTensor; who takes it renames the capsule to
 * "used_dltensor" and calls the deleter in the end. */

enum { DLPACK_CPU = 1, DLPACK_CUDA = 2, DLPACK_CUDA_MANAGED = 13 };
enum { DLPACK_UINT = 1, DLPACK_FLOAT = 2, DLPACK_BFLOAT = 4 };

typedef struct DLDevice {
    int32_t device_type, device_id;
} DLDevice;

typedef struct DLDataType {
    uint8_t code, bits;
    uint16_t lanes;
} DLDataType;

typedef struct DLTensor {
    void *data;
    DLDevice device;
    int32_t ndim;
    DLDataType dtype;
    int64_t *shape, *strides; /* of elements; strides NULL: dense, the last index fastest */
    uint64_t byte_offset;
} DLTensor;

typedef struct DLManagedTensor {
    DLTensor dl_tensor;
    void *manager_ctx;
    void (*deleter)(struct DLManagedTensor *self);
} DLManagedTensor;

#endif
