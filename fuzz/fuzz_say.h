/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the commands of spore fuzz say to people.
 *
 * Thread rule: one thread.
 */
#ifndef FUZZ_FUZZ_SAY_H
#define FUZZ_FUZZ_SAY_H

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define FUZZ_STATUS_CRASHED 1 /* or: something is wrong with the target */
#define FUZZ_STATUS_USAGE   2
#define FUZZ_STATUS_FAILED  125

/* One line on standard error; the status of a bad command line. */
int fuzz_say_usage(const char *verb, const char *problem, const char *what);

/* One line on standard error; the status of a failure. */
int fuzz_say_failed(const char *verb, const struct err *err);

/* One line on standard error: what will not work, and the cure. */
void fuzz_say_warning(const char *verb, const char *fmt, ...) CC_PRINTF(2, 3);

#endif
