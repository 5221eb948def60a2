#ifndef FACS_TESTS_RACES_H
#define FACS_TESTS_RACES_H

#include <cstddef>
#ifdef FACS_EMULATED_RACES
#    include <sanitizer/tsan_interface.h>
#endif
#include <ucontext.h>

/* Races between the threads of a block, found by ThreadSanitizer where the kernels, and only
 * they, are compiled with it (make emulate-races): it is told who runs and what orders their
 * memory: __syncthreads, __syncwarp and barriers of pairs do, shuffles and products do not.
 * Blocks run one after the other, so nothing is said of races between them. */

namespace races
{

#ifdef FACS_EMULATED_RACES

extern "C" {
void __tsan_read_range(void *p, unsigned long bytes);
void __tsan_write_range(void *p, unsigned long bytes);
}

constexpr bool DETECTED = true;

inline void *make_fiber()
{
    return __tsan_create_fiber(0);
}
inline void *home()
{
    static thread_local void *fiber = __tsan_get_current_fiber();
    return fiber;
}
inline void swap(ucontext_t *from, const ucontext_t *to, void *fiber)
{
    __tsan_switch_to_fiber(fiber, __tsan_switch_to_fiber_no_sync);
    swapcontext(from, to);
}
inline void acquire(void *what)
{
    __tsan_acquire(what);
}
inline void release(void *what)
{
    __tsan_release(what);
}
inline void read(const void *p, size_t bytes)
{
    __tsan_read_range(const_cast<void *>(p), bytes);
}
inline void write(void *p, size_t bytes)
{
    __tsan_write_range(p, bytes);
}

#else

constexpr bool DETECTED = false;

inline void *make_fiber()
{
    return NULL;
}
inline void *home()
{
    return NULL;
}
inline void swap(ucontext_t *, const ucontext_t *, void *) {}
inline void acquire(void *) {}
inline void release(void *) {}
inline void read(const void *, size_t) {}
inline void write(void *, size_t) {}

#endif

} // namespace races

#endif
