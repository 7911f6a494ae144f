/* The external matrix product: CLBlast. The only file that knows it. */
#include "opencl.h"

#ifdef LUN_HAVE_CLBLAST

#include <clblast_c.h>

bool lun_opencl_has_gemm(void)
{
    return true;
}

static const char *clblast_name(CLBlastStatusCode code)
{
    switch ((int)code) {
    case CLBlastNotImplemented: return "not implemented";
    case CLBlastInvalidMatrixA: return "matrix A is not valid";
    case CLBlastInvalidMatrixB: return "matrix B is not valid";
    case CLBlastInvalidMatrixC: return "matrix C is not valid";
    case CLBlastInvalidDimension: return "a dimension is not valid";
    case CLBlastInvalidLeadDimA: return "leading dimension of A";
    case CLBlastInvalidLeadDimB: return "leading dimension of B";
    case CLBlastInvalidLeadDimC: return "leading dimension of C";
    case CLBlastInsufficientMemoryA: return "A is larger than its buffer";
    case CLBlastInsufficientMemoryB: return "B is larger than its buffer";
    case CLBlastInsufficientMemoryC: return "C is larger than its buffer";
    case CLBlastInsufficientMemoryTemp: return "too little temporary memory";
    case CLBlastInvalidLocalMemUsage: return "too little local memory";
    case CLBlastInvalidLocalThreadsTotal:
    case CLBlastInvalidLocalThreadsDim: return "the work-group is too large for the device";
    case CLBlastDatabaseError: return "no parameters for this device";
    case CLBlastUnexpectedError:
    case CLBlastUnknownError: return "an unexpected error";
    default: return lun_opencl_error_name((cl_int)code); /* CLBlast passes OpenCL's own codes on */
    }
}

lun_status lun_opencl_gemm(lun_opencl *cl, const lun_gemm_args *g, const lun_place place[3], const char *what)
{
    const CLBlastStatusCode code =
        CLBlastSgemm(CLBlastLayoutRowMajor, g->trans_a ? CLBlastTransposeYes : CLBlastTransposeNo,
                     g->trans_b ? CLBlastTransposeYes : CLBlastTransposeNo, (size_t)g->m, (size_t)g->n, (size_t)g->k,
                     1.0f, lun_opencl_mem(place[0]), place[0].offset / sizeof(float), (size_t)g->lda,
                     lun_opencl_mem(place[1]), place[1].offset / sizeof(float), (size_t)g->ldb, g->beta,
                     lun_opencl_mem(place[2]), place[2].offset / sizeof(float), (size_t)g->ldc, &cl->queue, NULL);
    if (code == CLBlastSuccess)
        return LUN_OK;
    const bool memory = (int)code == CL_MEM_OBJECT_ALLOCATION_FAILURE || (int)code == CL_OUT_OF_HOST_MEMORY;
    return lun_fail(memory ? LUN_ERR_MEMORY : LUN_ERR_DEVICE, "OpenCL: %s: CLBlastSgemm: %s (%d)", what,
                    clblast_name(code), (int)code);
}

/* CLBlast keeps programs under the context's address, and a later context may get the same address. */
void lun_opencl_gemm_release(void)
{
    (void)CLBlastClearCache();
}

#else

bool lun_opencl_has_gemm(void)
{
    return false;
}

lun_status lun_opencl_gemm(lun_opencl *cl, const lun_gemm_args *args, const lun_place place[3], const char *what)
{
    (void)cl;
    (void)args;
    (void)place;
    return lun_fail(LUN_ERR_INTERNAL, "OpenCL: %s: this build has no CLBlast", what);
}

void lun_opencl_gemm_release(void) {}

#endif
