/* SPDX-License-Identifier: Apache-2.0 */
/*
 * userfaultfd: whose process touches a missing page of a registered range
 * waits until somebody who holds the descriptor puts the page there.
 *
 * What the kernel does and users of this must live with:
 * - who waits goes on with a page of zeroes when the last copy of the
 *   descriptor is closed. Nobody may let that happen while a guest can run;
 * - KVM and system calls touch guest memory as the kernel, so a descriptor
 *   that serves only user mode (UFFD_USER_MODE_ONLY) is of no use;
 * - a range that is mapped over is registered no more, and what waited there
 *   waits until it is woken;
 * - a descriptor that came from another process is a shared file: its
 *   O_NONBLOCK can be cleared at any time, so a read can block.
 *
 * Thread rule: none. A descriptor from elsewhere is hostile: messages are
 * copied once and checked by who reads them, addresses name its owner's memory
 * and not ours.
 */
#ifndef VMM_CORE_UFFD_H
#define VMM_CORE_UFFD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/*
 * A descriptor that serves the kernel's faults too, non-blocking, from
 * /dev/userfaultfd or the system call. An error says what is missing.
 */
CC_MUST_CHECK int uffd_open(int *ret_fd, struct err *err);

/* Whether the descriptor is a userfaultfd and no other file. */
CC_MUST_CHECK bool uffd_is_one(int fd);

/* Has missing pages of our own [host, host + len) served; whole pages. */
CC_MUST_CHECK int uffd_register(int fd, void *host, size_t len);

/*
 * Put `len` bytes of whole pages at `address` of the owner's memory and wake
 * who waits there: 0; -EEXIST, some page was there and is as it was; -ENOENT,
 * nothing is registered there; -EAGAIN, messages must be read first; -ESRCH,
 * the owner is gone; or another -errno. After a failure nobody is woken.
 */
CC_MUST_CHECK int uffd_copy(
    int fd, uint64_t address, const void *pages, size_t len);
CC_MUST_CHECK int uffd_zero(int fd, uint64_t address, size_t len);

/* Has who waits in the range try again. */
void uffd_wake(int fd, uint64_t address, size_t len);

#endif
