#ifndef FACS_CORE_BLAS_H
#define FACS_CORE_BLAS_H

/* The only place of cblas.h. facs_blas_available is 0 without a BLAS at build time, and
 * where the system's BLAS has more than one thread of its own; then nothing calls
 * facs_blas_gemm. */

int facs_blas_available(void);

/* Name and version of the BLAS, or "none". */
const char *facs_blas_name(void);

/* C (m x n) = op(A) op(B) + beta C, all row-major, on the calling thread only. */
void facs_blas_gemm(int transpose_a, int transpose_b, int m, int n, int k, const float *a,
                    int lda, const float *b, int ldb, float beta, float *c, int ldc);

/* Keeps a private BLAS single-threaded: our own workers call it. Once, at start. */
void facs_blas_init(void);

#endif
