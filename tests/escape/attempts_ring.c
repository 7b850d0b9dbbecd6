/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_uring: what goes through a ring passes no seccomp filter, so the ring
 * that a monitor has open must refuse by itself.
 */
#include <fcntl.h>
#include <liburing.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/escape/escape.h"
#include "vmm/base/cc.h"

/* Ring without the restriction, for the attempts without a jail. */
#define ENTRIES 8

static int try_setup(struct escape *e)
{
    struct io_uring_params params = {0};

    return ESCAPE_CALL(e, SYS_io_uring_setup, 4, &params);
}
