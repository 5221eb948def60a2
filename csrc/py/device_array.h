#ifndef FACS_PY_DEVICE_ARRAY_H
#define FACS_PY_DEVICE_ARRAY_H

#include "py/bridge.h"

#include "core/device.h"

/* facsnet._core.DeviceArray: a dense array in a GPU's memory, its own or another library's. */
typedef struct facs_py_device_array {
    PyObject_HEAD const facs_device *device;
    void *data;
    facs_py_dtype dtype; /* FACS_PY_UINT16: the bits of bfloat16 */
    int ndim;
    int64_t shape[FACS_PY_MAX_DIMS];
    int owned;       /* data is freed with this object */
    PyObject *owner; /* of other memory: what keeps it, or NULL */
    void *managed;   /* of other memory: its DLManagedTensor, or NULL */
} facs_py_device_array;

size_t facs_py_device_bytes(const facs_py_device_array *array);

/* Whether the memory of any object is a GPU's, by its __dlpack_device__ or its
 * __cuda_array_interface__; -1 with an exception. */
int facs_py_is_on_gpu(PyObject *object);

/* A new reference to a DeviceArray on `device` over the memory of such an object, or to the
 * object where it is one; NULL with an exception that names the argument. What other libraries
 * have asked of the GPU comes before what is asked of `device` next. */
PyObject *facs_py_device_view(const facs_device *device, PyObject *object,
                              const char *argument);

/* For an argument that may lie in the memory of `device`, a network's: 1 when it does, with
 * *array borrowing it (array->object keeps it) and *dtype; 0 when it is the host's; -1 with an
 * exception, also where it is the GPU's and `device` is the CPU. shape as in
 * facs_py_array_from. */
int facs_py_device_take(facs_py_array *array, PyObject *object, const facs_device *device,
                        const char *argument, int ndim, int64_t *shape, facs_py_dtype *dtype);

/* DLPack's way out; one line each in the type. */
PyObject *facs_py_device_dlpack(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *facs_py_device_dlpack_device(PyObject *self, PyObject *unused);
PyObject *facs_py_device_interface(PyObject *self, void *unused);

/* An object of the type with nothing in it; data is the caller's to fill in. */
facs_py_device_array *facs_py_device_new(const facs_device *device);
int facs_py_is_device_array(PyObject *object);

/* Calls the deleter of a DLManagedTensor. */
void facs_py_device_unmanage(void *managed);

facs_py_adder facs_py_device_add;

#endif
