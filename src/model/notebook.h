/* The notebook network's parameters as a list. Private to the model tier. */
#ifndef LUN_NOTEBOOK_H
#define LUN_NOTEBOOK_H

#include <stdbool.h>

#include <lunette/model.h>

/* Call `visit` for every parameter and buffer in the order of PyTorch's state_dict (num_batches_tracked, which is one
 * integer and stays on the host, is left out) until it returns false; the name lives during the call. `config` has
 * passed lun_notebook_check. Returns false if visit did. */
bool lun_notebook_visit(const lun_model_config *config, bool (*visit)(void *payload, const lun_param_info *info),
                        void *payload);

/* Is this a network at all? LUN_ERR_USAGE with the rule that is broken. */
lun_status lun_notebook_check(const lun_model_config *config);

#endif
