/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The user's terminal: raw mode for the time of a run, and its size.
 *
 * Thread rule: one thread. Whoever calls tty_raw calls tty_restore on every
 * way out; a run that dies of a signal restores through run.c's handlers.
 */
#ifndef VMM_TTY_H
#define VMM_TTY_H

#include <stdbool.h>
#include <stdint.h>
#include <termios.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct tty {
    int fd; /* borrowed; -1: nothing to restore */
    struct termios saved;
};

/* Puts terminal `fd` into raw mode and remembers what it was. */
CC_MUST_CHECK int tty_raw(struct tty *tty, int fd, struct err *err);

/* Undoes tty_raw, once; safe on a struct tty with fd -1. */
void tty_restore(struct tty *tty);

/* Rows and columns of terminal `fd`; false if it has none. */
bool tty_size(int fd, uint16_t *ret_rows, uint16_t *ret_cols);

#endif
