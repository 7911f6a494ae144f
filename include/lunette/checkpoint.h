/* safetensors files: reading them without trust, writing them so that they last.
 *
 * The format (huggingface/safetensors): a 64-bit little-endian length N, N bytes of JSON, then the tensors' bytes,
 * little-endian and C-contiguous in the order of `shape`, which is PyTorch's (N C H W, K C R S).
 *
 * What the reader demands, all of it before any memory follows a number of the file:
 *   - a regular file; 2 <= N <= 100,000,000 and 8 + N <= file size;
 *   - the header begins with '{', is UTF-8, holds one JSON object and after it only spaces, tabs and line ends;
 *     no key twice in one object (escapes resolved first), nesting of at most 8, about a million values at most;
 *   - an entry has exactly dtype, shape (at most 8 dimensions) and data_offsets; numbers are plain non-negative
 *     integers below 2^53 (no sign, point or exponent); `__metadata__`, if there, maps strings to strings;
 *   - sorted by offset the tensors fill the data from 0 to the end of the file: no hole, overlap or rest; each one's
 *     size is that of its shape and type. A tensor without elements lies at the running position.
 *
 * Whatever breaks a rule is LUN_ERR_CHECKPOINT with a line that names the file and, where there is one, the tensor;
 * a path that does not exist is LUN_ERR_USAGE. NaN and infinity are values like others here.
 *
 * Files written here carry two metadata keys besides the caller's, unknown to the format and ignored by other readers:
 *   lunette.crc32         JSON text, {"tensor name": "8 hex digits", ...}: CRC-32 (zlib's) of each tensor's bytes
 *   lunette.header_crc32  8 hex digits: CRC-32 of the N header bytes, these eight digits taken as zeros
 * A tool that changes tensors and keeps the metadata must drop both.
 *
 * Big-endian machines are not supported.
 */
#ifndef LUNETTE_CHECKPOINT_H
#define LUNETTE_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LUN_SAFETENSORS_MAX_RANK   8
#define LUN_SAFETENSORS_MAX_HEADER 100000000

typedef enum lun_safetensors_dtype {
    LUN_ST_BOOL, /* one byte, 0 or 1 */
    LUN_ST_U8,
    LUN_ST_I8,
    LUN_ST_U16,
    LUN_ST_I16,
    LUN_ST_F16,
    LUN_ST_BF16,
    LUN_ST_U32,
    LUN_ST_I32,
    LUN_ST_F32,
    LUN_ST_U64,
    LUN_ST_I64,
    LUN_ST_F64
} lun_safetensors_dtype;

/* The format's own name ("F32"), and the bytes of one element. */
LUN_API const char *lun_safetensors_dtype_name(lun_safetensors_dtype dtype);
LUN_API size_t lun_safetensors_dtype_size(lun_safetensors_dtype dtype);

/* ---- reading ----------------------------------------------------------------------------------------- */

/* An open file. Immutable after opening: any number of threads may read from it. The file is read with pread() and not
 * mapped, so one that changes underneath gives errors or other numbers and never a crash. */
typedef struct lun_safetensors lun_safetensors;

typedef struct lun_safetensors_entry {
    const char *name; /* UTF-8, lives as long as the file is open */
    lun_safetensors_dtype dtype;
    int rank; /* 0: one element */
    int64_t dims[LUN_SAFETENSORS_MAX_RANK];
    int64_t count;   /* elements */
    uint64_t offset; /* from the start of the file */
    uint64_t bytes;
} lun_safetensors_entry;

LUN_API lun_status lun_safetensors_open(const char *path, lun_safetensors **out);
/* NULL is allowed. */
LUN_API void lun_safetensors_close(lun_safetensors *file);

LUN_API const char *lun_safetensors_path(const lun_safetensors *file);
LUN_API size_t lun_safetensors_count(const lun_safetensors *file);
/* Tensors in the order in which their bytes lie in the file; NULL unless index < count. */
LUN_API const lun_safetensors_entry *lun_safetensors_info(const lun_safetensors *file, size_t index);
/* The index of the tensor of this name, or -1. */
LUN_API int64_t lun_safetensors_find(const lun_safetensors *file, const char *name);

/* The metadata value of `key`, NULL if there is none; and all of them by number, in the file's order. */
LUN_API const char *lun_safetensors_metadata(const lun_safetensors *file, const char *key);
LUN_API size_t lun_safetensors_metadata_count(const lun_safetensors *file);
LUN_API const char *lun_safetensors_metadata_at(const lun_safetensors *file, size_t index, const char **value);

/* Read one whole tensor. `bytes` or `count` must be the tensor's own (LUN_ERR_INTERNAL otherwise). The file's size is
 * compared with the one at opening, so a file that was cut or that grew is an error. After a failure dst may be partly
 * filled.
 *
 * lun_safetensors_read      the raw bytes, any type
 * lun_safetensors_read_f32  F32, F16, BF16 exactly; F64 rounded to nearest; other types fail
 * lun_safetensors_read_i64  BOOL and every integer type, exactly; a U64 above 2^63-1 and a BOOL above 1 fail */
LUN_API lun_status lun_safetensors_read(const lun_safetensors *file, size_t index, void *dst, size_t bytes);
LUN_API lun_status lun_safetensors_read_f32(const lun_safetensors *file, size_t index, float *dst, size_t count);
LUN_API lun_status lun_safetensors_read_i64(const lun_safetensors *file, size_t index, int64_t *dst, size_t count);

/* Read everything and compare it with the CRCs of the metadata; the detail names the first damaged tensor, or "header".
 * A file without CRCs (another program's) passes unless `require` is not 0; one with only part of them fails. */
LUN_API lun_status lun_safetensors_verify(const lun_safetensors *file, int require);

/* ---- writing ----------------------------------------------------------------------------------------- */

/* create, then metadata() and declare() in any order, then data() for each tensor in the order of declaration, then
 * commit(). The file appears under its name, whole and synced to the disk, when commit() succeeds, and not at all
 * otherwise; the former file of that name stays until then. The same calls give the same bytes.
 *
 * The CRCs are known only after the data; their places in the header have a fixed width and are filled in at commit.
 *
 * Wrong calls are LUN_ERR_USAGE, a disk that fails LUN_ERR_STORAGE. A writer belongs to one thread at a time. After any
 * failure only discard() is of use (commit() fails and frees). */
typedef struct lun_safetensors_writer lun_safetensors_writer;

LUN_API lun_status lun_safetensors_writer_create(const char *path, lun_safetensors_writer **out);

/* Set `key` (UTF-8, as the value). After the first data() a key that is there can still be given another value as long
 * as the header keeps its length; commit() fails if it does not. The keys of the CRCs are refused. */
LUN_API lun_status lun_safetensors_writer_metadata(lun_safetensors_writer *writer, const char *key, const char *value);

/* The next tensor; its bytes follow the former one's. Refused: a name used before or `__metadata__`, a negative
 * dimension, more than LUN_SAFETENSORS_MAX_RANK of them, and a tensor whose bytes would not begin at a multiple of its
 * element size (PyTorch cannot map those: declare wide types first). `dims` may be NULL when rank is 0. */
LUN_API lun_status lun_safetensors_writer_declare(lun_safetensors_writer *writer, const char *name,
                                                  lun_safetensors_dtype dtype, int rank, const int64_t *dims);

/* The next bytes of the tensor at turn, all of it or a piece; a call must not reach into the next tensor. Tensors
 * without elements have no turn. */
LUN_API lun_status lun_safetensors_writer_data(lun_safetensors_writer *writer, const void *data, size_t bytes);

/* A 64-bit digest of names, types, shapes and data; everything declared must have been written. */
LUN_API lun_status lun_safetensors_writer_digest(lun_safetensors_writer *writer, uint64_t *digest);

/* Frees the writer in every case. */
LUN_API lun_status lun_safetensors_writer_commit(lun_safetensors_writer *writer);
/* Leave no trace. NULL is allowed. */
LUN_API void lun_safetensors_writer_discard(lun_safetensors_writer *writer);

#ifdef __cplusplus
}
#endif
#endif
