/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process uses, from /proc/PID/statm and stat, which cost the kernel
 * no walk of page tables as smaps does.
 *
 * Thread rule: no state, any thread. The text is the kernel's, but the process
 * may be anybody's by the time it is read: numbers only, nothing follows from
 * them but a count.
 */
#ifndef VMM_SERVE_PROC_SAMPLE_H
#define VMM_SERVE_PROC_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/base/cc.h"

struct proc_sample {
    char state; /* 'R', 'S', 'Z', ... */
    uint64_t
        private_bytes; /* resident, of no file: what it alone has written */
    uint64_t minor_faults;
    uint64_t major_faults;
    uint64_t cpu_ns;
};

/* -ESRCH if there is no such process any more. */
CC_MUST_CHECK int proc_sample_take(pid_t pid, struct proc_sample *ret_sample);

/* Bytes read from and written to files and disks, /proc/PID/io: or -errno. */
CC_MUST_CHECK int proc_sample_io(
    pid_t pid, uint64_t *ret_read, uint64_t *ret_written);

/* The two parsers; `text` ends with a NUL. False if it is not that. */
CC_MUST_CHECK bool proc_sample_parse_statm(
    const char *text, uint64_t *ret_private_bytes);
CC_MUST_CHECK bool proc_sample_parse_stat(
    const char *text, struct proc_sample *ret_sample);

#endif
