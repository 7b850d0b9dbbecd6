/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the consoles of `spore run` lead: our standard streams, files, or
 * nowhere but the last lines for an error.
 *
 * Owns the files and the terminal's mode. Thread rule: the loop's thread, but
 * for run_consoles_restore_tty, which any may call when the process ends.
 */
#ifndef VMM_RUN_CONSOLES_H
#define VMM_RUN_CONSOLES_H

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/instance.h"
#include "vmm/output_limit.h"
#include "vmm/run_options.h"
#include "vmm/tty.h"

struct run_consoles {
    struct tty tty;            /* the serial console's keyboard */
    int fd;                    /* -1: no file of our own */
    int vconsole_fd;           /* the same */
    struct output_limit log;   /* our standard streams, if they are a log */
    struct output_limit file;  /* of `fd` */
    struct output_limit vfile; /* of `vconsole_fd` */
};

#define RUN_CONSOLES_NONE                                                      \
    {                                                                          \
        .tty = {.fd = -1}, .fd = -1, .vconsole_fd = -1                         \
    }

/*
 * Limits what the guest may write to the log of what is detached, before any
 * console is opened; files that are opened here have limits of their own.
 */
void run_consoles_limit(struct run_consoles *c, const struct run_options *o);

/* Makes a file for output, or cuts it; only its owner can read it. */
CC_MUST_CHECK int run_consoles_open_file(
    const char *path, int *ret_fd, struct err *err);

/*
 * The serial console, before the machine is built. `on_escape` is called when
 * the user leaves through the keyboard.
 */
CC_MUST_CHECK int run_consoles_open(struct run_consoles *c,
    const struct run_options *o, struct instance *inst,
    void (*on_escape)(void *opaque), void *opaque, struct err *err);

/*
 * Before the machine is built: what the serial port has to say goes to a file,
 * which is made if it is missing and added to, and its keyboard stays ours.
 */
CC_MUST_CHECK int run_consoles_redirect(struct run_consoles *c,
    const struct run_options *o, struct instance *inst, const char *path,
    struct err *err);

/* The virtio console, if there is one: once the description is known. */
CC_MUST_CHECK int run_consoles_open_virtio(struct run_consoles *c,
    const struct run_options *o, struct instance *inst, struct err *err);

/* The last lines on standard error, unless the user saw them come. */
void run_consoles_show_tail(const struct run_options *o, struct instance *inst);

/* The terminal as it was; what follows are lines for people. */
void run_consoles_restore_tty(struct run_consoles *c);

/* After instance_fini. */
void run_consoles_close(struct run_consoles *c);

#endif
