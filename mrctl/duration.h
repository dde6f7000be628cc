/* Spans of time as an operator writes them: 90s, 15m, 2h, 1d. */
#ifndef MR_MRCTL_DURATION_H
#define MR_MRCTL_DURATION_H

#include "common/core/err.h"

#include <stdint.h>

/* A whole number above 0 and its unit, at most 366 days, as milliseconds; ERR_INVALID. */
int duration_parse(const char *text, int64_t *out_ms) MR_MUST_CHECK;

#endif
