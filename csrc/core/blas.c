#include "core/blas.h"

#if defined(FACS_BLAS_PREFIXED) || defined(FACS_BLAS)

#    include <cblas.h>

#    ifdef FACS_BLAS_PREFIXED /* the scipy-openblas32 wheel, private to this package */
#        define cblas_sgemm              scipy_cblas_sgemm
#        define openblas_get_config      scipy_openblas_get_config
#        define openblas_set_num_threads scipy_openblas_set_num_threads
#    endif

int facs_blas_available(void)
{
#    ifdef FACS_BLAS_PREFIXED
    return 1;
#    else
    /* A shared BLAS with a thread pool of its own would start it inside each of our workers,
     * and its size is not ours to set. */
    return openblas_get_parallel() != OPENBLAS_THREAD || openblas_get_num_threads() == 1;
#    endif
}

const char *facs_blas_name(void)
{
    return openblas_get_config();
}

void facs_blas_gemm(int transpose_a, int transpose_b, int m, int n, int k, const float *a,
                    int lda, const float *b, int ldb, float beta, float *c, int ldc)
{
    cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
                transpose_b ? CblasTrans : CblasNoTrans, m, n, k, 1.0f, a, lda, b, ldb, beta, c,
                ldc);
}

void facs_blas_init(void)
{
#    ifdef FACS_BLAS_PREFIXED
    openblas_set_num_threads(1);
#    endif
}

#else

int facs_blas_available(void)
{
    return 0;
}

const char *facs_blas_name(void)
{
    return "none";
}

void facs_blas_gemm(int transpose_a, int transpose_b, int m, int n, int k, const float *a,
                    int lda, const float *b, int ldb, float beta, float *c, int ldc)
{
    (void)transpose_a, (void)transpose_b, (void)m, (void)n, (void)k, (void)a, (void)lda;
    (void)b, (void)ldb, (void)beta, (void)c, (void)ldc;
}

void facs_blas_init(void) {}

#endif
