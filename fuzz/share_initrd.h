/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The initrd of a guest that runs a share directory of Nyx: what every guest
 * that fuzzes has, the host's busybox, and the C library of the host where the
 * directory brings none of its own.
 *
 * Thread rule: one thread. Takes files of the host by fixed names; of the
 * directory it asks only whether there is a libc.so.6 in it.
 */
#ifndef FUZZ_SHARE_INITRD_H
#define FUZZ_SHARE_INITRD_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/*
 * Makes it for the directory share_fd; free *ret_bytes. -ENOENT, with the
 * cure, if there is no busybox that is linked statically.
 */
CC_MUST_CHECK int share_initrd_make(
    int share_fd, uint8_t **ret_bytes, size_t *ret_size, struct err *err);

#endif
