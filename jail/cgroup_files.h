/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The small text files in the folder of a cgroup. What they say comes from the
 * kernel, or from whoever made the folder, and is read with bounds. Thread
 * rule: none.
 */
#ifndef JAIL_CGROUP_FILES_H
#define JAIL_CGROUP_FILES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/* Writes `text` at once to a file that is there: 0 or -errno. */
CC_MUST_CHECK int cgroup_file_write(
    int dir, const char *file, const char *text);

/*
 * What a file holds, ended by a NUL that is not counted: bytes, -EFBIG if it
 * has `size` or more, or -errno.
 */
CC_MUST_CHECK ssize_t cgroup_file_read(
    int dir, const char *file, char *buf, size_t size);

/* The one number in a text, UINT64_MAX for "max": 0 or -EINVAL. */
CC_MUST_CHECK int cgroup_text_number(const char *text, uint64_t *ret_value);

/* The number behind `key` and a blank at the start of a line: 0 or -ENOENT. */
CC_MUST_CHECK int cgroup_text_key(
    const char *text, const char *key, uint64_t *ret_value);

/*
 * The number of a file, or with a `key` the one behind that: 0, -ENOENT if
 * there is no such file or key, -EINVAL, or -errno.
 */
CC_MUST_CHECK int cgroup_file_number(
    int dir, const char *file, const char *key, uint64_t *ret_value);

/*
 * The process numbers that a text (cgroup.procs) begins with, at most `max`:
 * how many, or -EINVAL. 0 stands for a process of another pid namespace.
 */
CC_MUST_CHECK ssize_t cgroup_text_pids(
    const char *text, pid_t *ret_pids, size_t max);

#endif
