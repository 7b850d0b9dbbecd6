/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a template: boots its machine, has it set up and warmed up, and
 * freezes it.
 *
 * Blocking, for commands; it says on standard error what takes long. Thread
 * rule: the process's main thread. Not trusted: what the root file system is
 * made of (rootfs.h), and the guest.
 */
#ifndef VMM_SERVE_TEMPLATE_BUILD_H
#define VMM_SERVE_TEMPLATE_BUILD_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define TEMPLATE_BUILD_TIMEOUT_S 600u

/* All borrowed. */
struct template_build {
    const char *name;
    bool replaces;         /* a template of this name may be there */
    const char *rootfs;    /* NULL: the one that spore run takes */
    char *const *machine;  /* options of spore run; NULL-terminated, or NULL */
    bool is_read_only;     /* the guest's root; else it is written to in RAM */
    const char *setup;     /* a script on this host, run as root; NULL: none */
    char *const *warmup;   /* a command; NULL: none */
    bool is_daemon;        /* it is started and goes on, and is waited for: */
    uint16_t tcp_port;     /* until this port of the guest answers; 0 */
    uint32_t vsock_port;   /* or this one; 0 */
    const char *ready_cmd; /* or this command of a shell ends well; NULL */
    char *const *env;      /* over the image's; NULL-terminated, or NULL */
    const char *cwd;       /* NULL: the image's */
    const char *user;      /* NULL: the image's */
    uint32_t timeout_s;    /* for all that happens in the guest */
};

/*
 * A failure, and a signal that ends the process, leaves nothing behind; such a
 * signal is let through before this returns.
 */
CC_MUST_CHECK int template_build_run(
    const struct template_build *build, struct err *err);

#endif
