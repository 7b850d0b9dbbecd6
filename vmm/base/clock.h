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

/*
 * Processor time that this process has used, its start and exec included.
 * Before it has waited for anything this is how long ago it was started, on a
 * host that is not busy.
 */
uint64_t clock_process_cpu_ns(void);

#endif
