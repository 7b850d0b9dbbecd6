/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys of the contract's metrics, in its order. Part of metrics.h.
 * Thread rule: pure functions.
 */
#ifndef VMM_METRICS_KEYS_H
#define VMM_METRICS_KEYS_H

#include <jansson.h>

enum metrics_keys { METRICS_KEYS_BLOCK, METRICS_KEYS_NET, METRICS_KEYS_PMEM };

/* All sections with all of their keys at 0; NULL without memory. */
json_t *metrics_keys_counters(void);

/* One such section, for one device. */
json_t *metrics_keys_section(enum metrics_keys which);

#endif
