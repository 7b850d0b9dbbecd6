/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Monotonic time in nanoseconds. Thread rule: any thread.
 */
#ifndef VMM_BASE_CLOCK_H
#define VMM_BASE_CLOCK_H

#include <stdint.h>

#define CLOCK_NS_PER_S  UINT64_C(1000000000)
#define CLOCK_NS_PER_MS UINT64_C(1000000)

/* CLOCK_MONOTONIC. */
uint64_t clock_now_ns(void);

/* CLOCK_REALTIME, nanoseconds since the epoch. */
uint64_t clock_realtime_ns(void);

/* CLOCK_MONOTONIC time at which this process was started, to 10 ms. */
uint64_t clock_process_start_ns(void);

#endif
