/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Error records for cold paths.
 *
 * The caller owns the record, it needs no initialisation and no cleanup, and
 * every function that takes one accepts NULL. The first failure sets it, each
 * level above may put its context in front, and the top prints it once, as
 * one line. Thread rule: none, a record belongs to one call chain.
 */
#ifndef VMM_BASE_ERR_H
#define VMM_BASE_ERR_H

#include "vmm/base/cc.h"

struct err {
    char text[384]; /* one line, NUL-terminated, cut if longer */
};

/*
 * Records a failure. `code` is a positive or negative errno; the result is
 * always its negative, so that a caller can `return err_set(...)`. `fmt` says
 * what failed and, where there is one, the cure; it does not end in a newline.
 */
int err_set(struct err *err, int code, const char *fmt, ...) CC_PRINTF(3, 4);

/*
 * As err_set, with ": " and the words for `code` behind the text, or "error
 * N" for a code without.
 */
int err_sys(struct err *err, int code, const char *fmt, ...) CC_PRINTF(3, 4);

/* Puts "context: " in front of what is recorded; returns `code` unchanged. */
int err_wrap(struct err *err, int code, const char *fmt, ...) CC_PRINTF(3, 4);

#endif
