/* The bound on a candidate's rounding errors, for choosing among candidates by measurement. Private. */
#ifndef LUN_ACCURACY_H
#define LUN_ACCURACY_H

#include "lower/lower.h"

/* How much larger the errors of this candidate are than those of adding the products directly: 1 for all that do so,
 * which a name is taken for that is not known here. */
double lun_amplification(const lun_op *op, const char *candidate);

/* The most that two candidates' results may differ on normal data: RMS of the difference over the RMS of the results.
 * NaN for kinds of ops for which it has not been derived. */
double lun_error_bound(const lun_op *op, const char *candidate, const char *reference);
/* The same of a convolution's .stats. */
double lun_statistics_error_bound(const lun_op *op, const char *candidate, const char *reference);

#endif
