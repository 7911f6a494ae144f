/* The PyTorch files, and what compares with them. */
#ifndef LUN_TESTS_GOLDEN_H
#define LUN_TESTS_GOLDEN_H

#include <check.h>
#include <stddef.h>
#include <stdint.h>

#include <lunette/checkpoint.h>
#include <lunette/lunette.h>

/* Set by main: the folder of the files, the device under test, a folder to write to. */
extern const char *golden_folder, *golden_scratch;
extern lun_device *golden_device;

/* FOLDER/NAME; valid to the end of the program. */
const char *golden_path(const char *name);
const char *scratch_path(const char *name);

/* Fail the test with the library's own words unless the call succeeded. */
#define MUST(call)                                                                                                     \
    do {                                                                                                               \
        const lun_status must_s_ = (call);                                                                             \
        ck_assert_msg(must_s_ == LUN_OK, "%s: %s: %s", #call, lun_status_name(must_s_), lun_error_detail());           \
    } while (0)

lun_safetensors *golden_open(const char *path);
/* A whole tensor, which must exist and have this many elements (0: any number). free() it. */
float *golden_floats(const lun_safetensors *file, const char *name, size_t count);
double *golden_doubles(const lun_safetensors *file, const char *name, size_t count);
int64_t *golden_integers(const lun_safetensors *file, const char *name, size_t *count);
double golden_scalar(const lun_safetensors *file, const char *name);
/* A number of the metadata. */
double golden_number(const lun_safetensors *file, const char *key);

/* A network on the device, filled from a file. Its graph can be extended between the two calls; a graph that needs a
 * fallback fails. */
typedef struct network {
    lun_model_file_info info;
    lun_store *store;
    lun_graph *graph;
    lun_plan *plan;
    lun_value x, t, target, y, loss;
} network;

network network_open(const char *path, lun_shape shape, lun_norm_mode norm);
void network_ready(network *n, const char *path, int training);
void network_close(network *n);
/* Every number of a role of the store in one array; free() it. */
float *store_values(lun_store *store, lun_role role, size_t *count);

/* |got - want| / |want|, both over all elements (L2); |got| where want is zero. NaN if either holds one. */
double relative(const float *got, const float *want, size_t count);

/* Run the model through lun_predict and hold it against NAME.out.safetensors: y.MODE and, where `kind` is given, loss
 * and all gradients under MODE.KIND. */
void compare_predict(const char *name, const char *model, lun_predict_norm norm, const char *mode, lun_loss_type loss,
                     const char *kind);

/* All tensors of both files are equal in name, type, shape and bytes; both files are. */
void same_tensors(const char *path_a, const char *path_b);
void same_files(const char *path_a, const char *path_b);

/* Tests of the other files. */
void add_file_tests(TCase *group);
void add_interop_tests(TCase *group);
void add_sampling_tests(TCase *group);
void add_unet_tests(TCase *group);
void add_winograd_tests(TCase *group);
void add_objective_tests(TCase *group);
void add_sampler_tests(TCase *group); /* a group of its own: it has a fixture */
void add_optimizer_tests(TCase *group);

#endif
