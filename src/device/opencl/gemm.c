/* The external matrix product: CLBlast. The only file that knows it. */
#include "base/base.h"
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

typedef struct parameter {
    const char *name;
    size_t value;
} parameter;

static bool set_parameters(const lun_opencl *cl, const char *kernel, const parameter *p, size_t count)
{
    const char *names[16];
    size_t values[16];
    for (size_t i = 0; i < count; i++) {
        names[i] = p[i].name;
        values[i] = p[i].value;
    }
    return CLBlastOverrideParameters(cl->id, kernel, CLBlastPrecisionSingle, count, names, values) == CLBlastSuccess;
}

/* CLBlast's parameters for a CPU send all but the largest products to a kernel that stages tiles through local memory
 * and adds scalars. Better is its register-tiling kernel, without local memory: an item computes `width` rows of one
 * vector each, whose sums stay in registers and whose right-hand side is read once a step; it reads row-major factors
 * as they are, where they are multiples of the tile and begin a buffer, and CLBlast copies them where not.
 *
 * Measured with CLBlast 1.5.3 and PoCL 3.1 on two cores of a Zen 4 (peak 231), GFLOP/s of processor time. A product of
 * 2048 x 256 x 1152: 13 with CLBlast's own parameters, 186 with these. As im2col_gemm, conv2d 4x128x64x64 with a 3x3
 * filter to 128 channels: 13 and 163, its data gradient 11 and 123, its weight gradient 10 and 43 (CLBlast transposes
 * the columns first). Where each step of k is on another page it stays poor: 256 x 1024 x 9216 reaches 42. The form for
 * vectors of 8 reached 85 to 114 there. More vectors or steps of k an item, or vectors of the left factor (KREG, VWN
 * above 1), were slower: 31 to 130. */
static void suit_cpu(const lun_opencl *cl)
{
    const size_t width = cl->dev->caps.lanes >= 16 ? 16 : 8, tile = 2 * width; /* two by two items a group */
    const parameter product[] = {{"GEMMK", 1},  {"KREG", 1},  {"KWG", 1},     {"KWI", 1},    {"MDIMA", 2}, {"MDIMC", 2},
                                 {"MWG", tile}, {"NDIMB", 2}, {"NDIMC", 2},   {"NWG", tile}, {"SA", 0},    {"SB", 0},
                                 {"STRM", 0},   {"STRN", 0},  {"VWM", width}, {"VWN", 1}};
    const parameter always = {"XGEMM_MIN_INDIRECT_SIZE", 1};
    /* A version of CLBlast that names them otherwise keeps its own. */
    if (set_parameters(cl, "Xgemm", product, LUN_COUNT(product)))
        (void)set_parameters(cl, "GemmRoutine", &always, 1);
}

lun_status lun_opencl_gemm(lun_opencl *cl, const lun_gemm_args *g, const lun_place place[3], const char *what)
{
    if (!cl->gemm_suited && cl->dev->info.type == LUN_DEVICE_CPU)
        suit_cpu(cl);
    cl->gemm_suited = true;
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
