/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/support/skip.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool skip_is_forbidden(void)
{
    const char *must = getenv("SPORE_MUST_WORK");

    return must != NULL && strcmp(must, "1") == 0;
}

int skip_all(const char *why)
{
    bool fails = skip_is_forbidden();

    (void)fprintf(stderr, "%s: %s\n", fails ? "FAILED" : "skipped", why);
    return fails ? 1 : 77;
}
