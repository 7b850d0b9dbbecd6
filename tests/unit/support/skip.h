/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of a test that cannot run on this machine. */
#ifndef TESTS_UNIT_SUPPORT_SKIP_H
#define TESTS_UNIT_SUPPORT_SKIP_H

#include <stdbool.h>

/* Whether SPORE_MUST_WORK=1 says that all can. */
bool skip_is_forbidden(void);

/*
 * For main() to return, with the reason printed: 77, by which ctest knows that
 * the program was skipped, or 1 if that is forbidden.
 */
int skip_all(const char *why);

#endif
