/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passt(1): a network for a guest that needs no privilege. It answers the
 * guest's frames with ordinary sockets of the host's user.
 *
 * Owns the process, from its start to its reaping: it is killed when it is
 * stopped, and ends by itself when its socket is closed, as when the monitor
 * is gone in whatever way. It gets that socket, /dev/null and a pipe for its
 * messages, no environment, and a process group of its own, so that the
 * terminal's Ctrl-C is not for it. Thread rule: the loop's thread. Its
 * messages are kept in a pipe, up to the room that this has, and looked at
 * when it has ended; they are quoted in one line, control characters replaced.
 */
#ifndef VMM_PASST_H
#define VMM_PASST_H

#include <stdint.h>
#include <sys/types.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/config.h"
#include "vmm/core/loop.h"

/* Room for three addresses beside that of the guest. */
#define PASST_PREFIX_MAX 29u

struct passt_config {
    uint32_t address; /* of the guest, IPv4 as a number */
    uint8_t prefix;   /* of its network, up to PASST_PREFIX_MAX bits */
    uint32_t gateway; /* stands for the host's loopback */
    uint32_t dns;     /* leads to the host's resolver */
    const struct config_forward *forwards; /* nothing else is forwarded */
    uint32_t forward_count;

    /* Called once if it ends before it is stopped; `why` is one line. */
    void (*on_end)(void *opaque, const char *why);
    void *opaque;
    struct device *dev; /* locked around on_end, or NULL */
};

struct passt {
    pid_t pid; /* 0: none */
    struct loop *loop;
    int message_fd;            /* its messages; -1 */
    struct loop_source source; /* owns a pidfd; -1 */
    void (*on_end)(void *opaque, const char *why);
    void *opaque;
};

/*
 * Starts it. *ret_fd is our end of its stream of frames, as net_stream takes
 * it. An error names the cure: -ENOENT if it is not installed, -EADDRINUSE and
 * the like for a port that cannot be had.
 */
CC_MUST_CHECK int passt_start(struct passt *passt,
    const struct passt_config *config, struct loop *loop, int *ret_fd,
    struct err *err);

/* Kills and reaps it; a zeroed struct is let be. */
void passt_stop(struct passt *passt);

#endif
