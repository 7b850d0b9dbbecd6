/* SPDX-License-Identifier: Apache-2.0 */
/* The host around an attempt, before and after each. Thread rule: run.h's. */
#ifndef TESTS_ESCAPE_HOST_H
#define TESTS_ESCAPE_HOST_H

#include "tests/escape/run.h"

/* A fresh terminal and report, nothing queued in the host's sockets. */
CC_MUST_CHECK int host_begin_attempt(struct run_host *host, struct err *err);

/* Removes what was made in the folder. */
CC_MUST_CHECK int host_end_attempt(struct run_host *host, struct err *err);

#endif
